"""Records of an attack: the bytes to send, the expected answers, and the actual outcome."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final
from urllib.parse import urlencode

SENTINEL: Final = b"GET /livez HTTP/1.1\r\nHost: attack\r\nConnection: close\r\n\r\n"
"""A request sent after others. If its answer comes next, nothing else was parsed as a request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


Check = Callable[[Answer], str]
"""Returns the problem with an answer of status 200; empty if there is none."""


@dataclass(frozen=True, slots=True)
class Due:
    """An answer that must arrive.

    Args:
        statuses: the allowed statuses.
        check: checks the body of a 200.
        is_head: it answers a HEAD request, so it has no body.
    """

    statuses: frozenset[int]
    check: Check | None = None
    is_head: bool = False


class Ending(Enum):
    """The client's behaviour after sending everything."""

    READ = auto()
    """Read the answers."""
    HALF_CLOSE = auto()
    """Shut down the sending side, then read the answers."""
    LEAVE = auto()
    """Close the connection without reading."""
    RESET = auto()
    """The same with a TCP reset."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Bytes to send over a connection, and the expected answers.

    Args:
        name: the variant within its kind.
        content: all bytes to send.
        due: one entry per answer, in order; any further answer is wrong.
        may_close: the service may also close the connection without an answer.
        must_close: the service must close the connection, with or without answers.
        reuses: use an idle connection, and keep it open for the next attempt.
        cuts: offsets at which sending pauses.
        pause_s: length of each pause, and of the pause before `ending`.
        is_slow: mostly waits for the service, so it runs in addition to the clients' other requests.
        is_for_grpc: send to the gRPC port.
    """

    name: str
    content: bytes
    due: tuple[Due, ...]
    may_close: bool = False
    must_close: bool = False
    reuses: bool = False
    cuts: tuple[int, ...] = ()
    pause_s: float = 0.0
    ending: Ending = Ending.READ
    is_slow: bool = False
    is_for_grpc: bool = False

    @property
    def requests(self) -> int:
        """Number of requests."""
        return max(1, len(self.due))


@dataclass(slots=True)
class Outcome:
    """The answers to an attempt, and the problems with them.

    Args:
        statuses: HTTP statuses as numbers, gRPC codes as names; "left" and "closed" if there was no answer.
    """

    statuses: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        """True if every answer was as expected, and none is missing."""
        return not (self.unexpected or self.wrong or self.lost)


def chance(draw: random.Random, share: float) -> bool:
    """Draw True with this probability."""
    return draw.random() < share


def due(*statuses: int, check: Check | None = None) -> tuple[Due, ...]:
    """Expect one answer with one of these statuses."""
    return (Due(frozenset(statuses), check),)


def request(
    method: str, target: str, body: bytes = b"", headers: Sequence[tuple[str, str]] = (), *, close: bool = False
) -> bytes:
    """Build a request with a Content-Length body."""
    lines = [f"{method} {target} HTTP/1.1", "Host: attack", *(f"{name}: {value}" for name, value in headers)]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(method: str, target: str, chunks: Sequence[bytes], headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """Build a request with a chunked body."""
    head = request(method, target, headers=[*headers, ("Transfer-Encoding", "chunked")]).replace(
        b"Content-Length: 0\r\n", b""
    )
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk) + b"0\r\n\r\n"


def query(path: str, **parameters: object) -> str:
    """Build a request target with the parameters that are not None."""
    given = {name: value for name, value in parameters.items() if value is not None}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path
