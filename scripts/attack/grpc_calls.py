"""Calls over gRPC: valid ones, invalid ones, and ones that the client cancels."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from scripts.attack.attempts import SENTINEL, Attempt, Ending, Outcome, chance
from scripts.attack.right import pixels_of
from scripts.attack.world import World
from service.api.kserve.generated import open_inference_pb2 as pb2

CHANNELS: Final = 4
SERVICE: Final = pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
INFER: Final = "ModelInfer"
STREAM: Final = "ModelStreamInfer"
ANSWER_TIMEOUT_S: Final = 60.0
RIGHT: Final = frozenset({"OK"})
BAD: Final = frozenset({"INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED"})
GIVEN_UP: Final = frozenset({"OK", "CANCELLED", "DEADLINE_EXCEEDED", "UNAVAILABLE"})
METHODS: Final = (
    "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelConfig",
    "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload",
    "SystemSharedMemoryStatus", "TraceSetting", "NoSuchMethod",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """A call over gRPC, and the allowed outcomes.

    Args:
        name: the variant within its kind.
        method: the method of the service.
        content: the message, valid or not.
        codes: names of the allowed status codes.
        check: checks the answer of a call with status OK.
        timeout_s: the client's deadline.
        cancel_after_s: the client cancels after this time; None never.
        messages: the messages of a stream, instead of `content`.
        checks: checks of the stream's answers, one per message.
    """

    name: str
    method: str
    content: bytes
    codes: frozenset[str]
    check: Callable[[bytes], str] | None = None
    timeout_s: float = ANSWER_TIMEOUT_S
    cancel_after_s: float | None = None
    messages: tuple[bytes, ...] = ()
    checks: tuple[Callable[[bytes], str], ...] = ()
    is_slow: bool = False

    @property
    def requests(self) -> int:
        """Number of requests."""
        return max(1, len(self.messages))


class Channels:
    """Connections to the gRPC port; an asynchronous context manager.

    Args:
        address: host and port.
    """

    def __init__(self, address: str) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        self._channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(CHANNELS)]
        self._next = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels:
            await channel.close()

    async def perform(self, asked: Call) -> Outcome:
        """Make a call and judge its end."""
        self._next = (self._next + 1) % len(self._channels)
        channel, path, outcome = self._channels[self._next], f"/{SERVICE}/{asked.method}", Outcome()
        # Without serializers, calls take and return bytes.
        if asked.messages:
            call = channel.stream_stream(path)(iter(asked.messages), timeout=asked.timeout_s)
        else:
            call = channel.unary_unary(path)(asked.content, timeout=asked.timeout_s)
        if asked.cancel_after_s is not None:
            asyncio.get_running_loop().call_later(asked.cancel_after_s, call.cancel)
        answers: list[bytes] = []
        try:
            answers = [answer async for answer in call] if asked.messages else [await call]
            code, words = "OK", ""
        except grpc.aio.AioRpcError as error:
            code, words = error.code().name, error.details() or ""
        except asyncio.CancelledError:
            code, words = "CANCELLED", ""
        outcome.statuses.append(code)
        if code not in asked.codes:
            outcome.unexpected.append(f"{code} instead of {sorted(asked.codes)}: {words[:300]}")
        elif code == "OK":
            outcome.wrong += _problems(asked, answers)
        return outcome


def _problems(asked: Call, answers: list[bytes]) -> list[str]:
    checks = asked.checks if asked.messages else (asked.check,) if asked.check else ()
    if checks and len(answers) != len(checks):
        return [f"{len(answers)} answers instead of {len(checks)}"]
    try:
        return [problem for check, answer in zip(checks, answers, strict=False) if (problem := check(answer))]
    except (DecodeError, LookupError, TypeError, ValueError) as error:
        return [f"an answer of another form: {error!r}"]


def right_call(draw: random.Random, world: World) -> Call:
    """Draw a valid call with files or pixels, as raw or typed contents."""
    target = world.target(draw)
    pictures = [world.picture(draw) for _ in range(draw.randint(1, 3))]
    mark = f"{draw.randrange(10**9)}"
    message = pb2.ModelInferRequest(model_name=target.model, id=mark)
    if chance(draw, 0.5):
        message.inputs.add(name="images", datatype="UINT8", shape=[len(pictures), 32, 32, 3])
        contents = [pixels_of(picture).tobytes() for picture in pictures]
        message.raw_input_contents.append(b"".join(contents))
    else:
        given = message.inputs.add(name="image_bytes", datatype="BYTES", shape=[len(pictures)])
        given.contents.bytes_contents.extend(picture.content for picture in pictures)

    def check(answer: bytes) -> str:
        answered = pb2.ModelInferResponse.FromString(answer)
        if (answered.model_name, answered.id) != (target.model, mark):
            return f"another request's answer: {answered.model_name} {answered.id}"
        if answered.raw_output_contents:
            flat = np.frombuffer(answered.raw_output_contents[0], "<f4")
        else:
            flat = np.array(answered.outputs[0].contents.fp32_contents, "<f4")
        rows = flat.reshape(len(pictures), len(target.labels)).tolist()
        problems = [world.problem(target.model, picture, row) for picture, row in zip(pictures, rows, strict=True)]
        return next(filter(None, problems), "")

    return Call("infer", INFER, message.SerializeToString(), RIGHT, check)


def stream(draw: random.Random, world: World) -> Call:
    """Draw a stream of several valid messages; some clients cancel it halfway."""
    asked = [right_call(draw, world) for _ in range(draw.randint(1, 12))]
    after_s = draw.choice([None, None, None, 0.001, 0.01])
    codes = RIGHT if after_s is None else GIVEN_UP
    checks = tuple(_in_stream(call.check) for call in asked if call.check)
    messages = tuple(call.content for call in asked)
    return Call("stream", STREAM, b"".join(messages), codes, messages=messages, checks=checks, cancel_after_s=after_s)


def _in_stream(check: Callable[[bytes], str]) -> Callable[[bytes], str]:
    def read(answer: bytes) -> str:
        answered = pb2.ModelStreamInferResponse.FromString(answer)
        return answered.error_message or check(answered.infer_response.SerializeToString())

    return read


def wrong_call(draw: random.Random, world: World) -> Call:
    """Draw a message with invalid parts, bytes that are not a message, or an unknown method."""
    match draw.randrange(4):
        case 0:
            return Call("no message", INFER, draw.randbytes(draw.randrange(1, 300)), BAD)
        case 1:
            content = bytearray(right_call(draw, world).content)
            for _ in range(draw.randint(1, 8)):
                content[draw.randrange(min(len(content), 120))] ^= 1 << draw.randrange(8)
            return Call("bits flipped", INFER, bytes(content), BAD | RIGHT | {"DEADLINE_EXCEEDED"})
        case 2:
            message = pb2.ModelInferRequest.FromString(right_call(draw, world).content)
            _spoil(draw, message)
            return Call("wrong part", INFER, message.SerializeToString(), BAD | RIGHT)
        case _:
            content = draw.choice([b"", draw.randbytes(20), pb2.ModelReadyRequest(name="alexnet").SerializeToString()])
            return Call("method", draw.choice(METHODS), content, BAD | RIGHT)


def no_grpc(draw: random.Random, _world: World) -> Attempt:
    """Draw bytes for the gRPC port that are not HTTP/2, or only its preface."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    content = draw.choice([SENTINEL, preface, preface + draw.randbytes(100), draw.randbytes(300), b"\x16\x03\x01" * 50])
    return Attempt("bytes", content, (), ending=Ending.RESET, pause_s=0.05, is_for_grpc=True)


def given_up(draw: random.Random, world: World) -> Call:
    """Draw a call that the client cancels, or that has a deadline of a few milliseconds."""
    asked = right_call(draw, world)
    after_s = draw.choice([0.0, 0.0005, 0.002, 0.02])
    if chance(draw, 0.5):
        return Call("cancelled", INFER, asked.content, GIVEN_UP, asked.check, cancel_after_s=after_s)
    return Call("deadline", INFER, asked.content, GIVEN_UP, asked.check, timeout_s=max(0.0005, after_s))


def _spoil(draw: random.Random, message: Any) -> None:
    (given,) = message.inputs
    match draw.randrange(6):
        case 0:
            given.shape[0] = draw.choice([-1, 0, 1000, 2**62])
        case 1:
            given.datatype = draw.choice(["FP32", "", "uint8", "BYTES"])
        case 2:
            message.model_name = draw.choice(["alexnet", "", "a" * 1000, "../x"])
        case 3:
            message.model_version = draw.choice(["99", "0", "x", "-1", "9" * 30])
        case 4:
            message.outputs.add(name=draw.choice(["logits", "probabilities", ""]))
            message.outputs[0].parameters["classification"].int64_param = draw.choice([-1, 0, 2**62])
        case _:
            message.raw_input_contents.extend([b"x"] * draw.randint(1, 5))
