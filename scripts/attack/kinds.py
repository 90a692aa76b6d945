"""All kinds of requests, and their weights."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from scripts.attack import bombs, connections, documents, files, forms, grpc_calls, heads, lenient, names, right
from scripts.attack.attempts import Attempt
from scripts.attack.grpc_calls import Call
from scripts.attack.world import World


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request.

    Args:
        weight: relative frequency.
        make: draws an attempt.
        is_costly: drawing is slow, so it is done before the run.
    """

    name: str
    weight: float
    make: Callable[[random.Random, World], Attempt | Call]
    is_costly: bool = False


KINDS: Final = (
    Kind("predict", 30, right.predict),
    Kind("predict-otherwise", 4, right.predict_otherwise),
    Kind("photo", 1, right.photo),
    Kind("batch", 3, right.batch),
    Kind("compare", 2, right.compare),
    Kind("explain", 0.5, right.explain),
    Kind("v1", 4, right.tensor_flow_serving),
    Kind("v2-json", 4, right.open_inference_json),
    Kind("v2-binary", 4, right.open_inference_binary),
    Kind("grpc", 4, grpc_calls.right_call),
    Kind("question", 3, right.question),
    Kind("description", 0.3, right.description),
    Kind("deadline", 5, names.deadlines),
    Kind("bad-deadline", 0.5, names.bad_deadlines),
    Kind("damaged-image", 9, files.damaged),
    Kind("unusual-image", 1, files.undamaged),
    Kind("bomb", 0.3, bombs.bomb, is_costly=True),
    Kind("compressed-bomb", 0.1, bombs.compressed_body, is_costly=True),
    Kind("nested-json", 0.1, bombs.nested_document, is_costly=True),
    Kind("malformed-head", 3, heads.malformed),
    Kind("long-head", 1, heads.too_long),
    Kind("long-right-head", 0.5, heads.long_but_right),
    Kind("half-head", 0.3, heads.half_head),
    Kind("smuggling", 2, heads.smuggling),
    Kind("upgrade", 2, heads.upgrade),
    Kind("pipelined", 1, connections.pipelined),
    Kind("leaver", 3, connections.leaver),
    Kind("half-close", 2, connections.half_close),
    Kind("cut-off", 1, connections.cut_off),
    Kind("slow-sender", 0.5, connections.slow_sender),
    Kind("idle", 0.2, connections.idle),
    Kind("half-body", 0.2, connections.half_body),
    Kind("unread", 0.1, connections.unread),
    Kind("lenient", 3, lenient.lenient),
    Kind("right-form", 2, forms.right_form),
    Kind("wrong-form", 3, forms.wrong_form),
    Kind("odd-json", 4, documents.odd_json),
    Kind("encoding", 0.5, documents.encodings),
    Kind("wrong-sizes", 2, documents.wrong_sizes),
    Kind("unknown-name", 2, names.unknown),
    Kind("bad-parameter", 2, names.parameters),
    Kind("bad-route", 1.5, names.routes),
    Kind("grpc-stream", 0.5, grpc_calls.stream),
    Kind("wrong-grpc", 2, grpc_calls.wrong_call),
    Kind("no-grpc", 0.3, grpc_calls.no_grpc),
    Kind("given-up-grpc", 1, grpc_calls.given_up),
)
GRPC_KINDS: Final = frozenset({"grpc", "grpc-stream", "wrong-grpc", "given-up-grpc", "no-grpc"})


def planned(kinds: Sequence[Kind], requests: int, seed: int) -> list[tuple[Kind, int]]:
    """Return a shuffled plan of kinds, each with its number within its kind; every kind occurs at least once."""
    weight = sum(kind.weight for kind in kinds)
    plan = [(kind, number) for kind in kinds for number in range(max(1, round(requests * kind.weight / weight)))]
    random.Random(seed).shuffle(plan)  # noqa: S311  # repeatable, on purpose
    return plan


def draw_attempt(kind: Kind, number: int, seed: int, world: World) -> Attempt | Call:
    """Draw the attempt with this number; it depends only on the seed, kind and number."""
    drawn = random.Random(f"{seed} {kind.name} {number}")  # noqa: S311  # repeatable, on purpose
    return kind.make(drawn, world)
