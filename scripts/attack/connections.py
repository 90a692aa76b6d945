"""Clients that pipeline, disconnect, half-close, are slow, or send nothing at all."""

import random
from typing import Final

from scripts.attack.attempts import Attempt, Due, Ending, chance, due, request
from scripts.attack.heads import HOST
from scripts.attack.right import predicting
from scripts.attack.world import World

MAX_PIPELINED: Final = 16
MAX_UNREAD: Final = 100
MAX_PAUSE_S: Final = 0.02
MAX_PIECES: Final = 40
CLOSE: Final = HOST + b"Connection: close\r\n"


def pipelined(draw: random.Random, world: World) -> Attempt:
    """Send several requests at once: each must get its answer, in order."""
    asked = [predicting(draw, world) for _ in range(draw.randint(2, MAX_PIPELINED))]
    content = b"".join(content for content, _ in asked[:-1]) + asked[-1][0].replace(HOST, CLOSE, 1)
    answers = tuple(Due(frozenset({200}), check) for _, check in asked)
    cuts = tuple(sorted(draw.sample(range(1, len(content)), draw.randint(0, 4))))
    return Attempt("pipelined", content, answers, must_close=True, cuts=cuts, pause_s=draw.random() * MAX_PAUSE_S)


def leaver(draw: random.Random, world: World) -> Attempt:
    """Disconnect before, during or after the answers."""
    count = draw.choice([1, 1, 2, MAX_PIPELINED])
    content = b"".join(predicting(draw, world)[0] for _ in range(count))
    if chance(draw, 0.4):
        content = content[: draw.randrange(1, len(content))]
    return Attempt(
        f"leaves {count}",
        content,
        (),
        ending=draw.choice([Ending.LEAVE, Ending.RESET]),
        pause_s=draw.choice([0, 0.0005, 0.002, MAX_PAUSE_S]),
    )


def half_close(draw: random.Random, world: World) -> Attempt:
    """Half-close after the requests: the answers must still arrive."""
    asked = [predicting(draw, world) for _ in range(draw.choice([1, 1, 1, 3]))]
    content = b"".join(content for content, _ in asked)
    answers = tuple(Due(frozenset({200}), check) for _, check in asked)
    return Attempt("half-closed", content, answers, must_close=True, ending=Ending.HALF_CLOSE)


def cut_off(draw: random.Random, world: World) -> Attempt:
    """Half-close within a request: the service must close the connection, with 400 or without an answer."""
    content, _ = predicting(draw, world)
    content = content[: draw.randrange(1, len(content))]
    return Attempt("cut off", content, due(400, 408), may_close=True, must_close=True, ending=Ending.HALF_CLOSE)


def half_body(draw: random.Random, world: World) -> Attempt:
    """Send an incomplete body: 408 after the timeout."""
    content, _ = predicting(draw, world)
    end = content.index(b"\r\n\r\n") + 4
    return Attempt("half body", content[: draw.randrange(end, len(content))], due(408), must_close=True, is_slow=True)


def unread(draw: random.Random, _world: World) -> Attempt:
    """Request long answers without reading them: they must not pile up in the service's memory."""
    content = request("GET", draw.choice(["/openapi.json", "/docs", "/metrics", "/models"])) * MAX_UNREAD
    return Attempt("unread", content, (), ending=Ending.RESET, pause_s=2.0, is_slow=True)


def slow_sender(draw: random.Random, world: World) -> Attempt:
    """Send a head and body slowly, in many pieces."""
    content, check = predicting(draw, world)
    cuts = tuple(sorted(draw.sample(range(1, len(content)), draw.randint(5, MAX_PIECES))))
    return Attempt(
        "slow", content, due(200, check=check), cuts=cuts, pause_s=draw.uniform(0.005, 0.05), reuses=True, is_slow=True
    )


def idle(_draw: random.Random, _world: World) -> Attempt:
    """Send nothing: the service must close the connection after a while."""
    return Attempt("idle", b"", (), must_close=True, is_slow=True)
