"""The records of an attack: something to send, the answers that would be right, and what really came."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final
from urllib.parse import urlencode

SENTINEL: Final = b"GET /livez HTTP/1.1\r\nHost: attack\r\nConnection: close\r\n\r\n"
"""A request behind others: that its answer is the next one shows that nothing else was taken for a request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; the names of its headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


Check = Callable[[Answer], str]
"""Says what is wrong with an answer with status 200; empty where nothing is."""


@dataclass(frozen=True, slots=True)
class Due:
    """An answer that must come.

    Args:
        statuses: those that it may have.
        check: reads the body of a 200.
        is_head: answers a HEAD request, so that no body follows.
    """

    statuses: frozenset[int]
    check: Check | None = None
    is_head: bool = False


class Ending(Enum):
    """The client's behaviour once everything is sent."""

    READ = auto()
    """It reads the answers."""
    HALF_CLOSE = auto()
    """It shuts down its sending side, then reads the answers."""
    LEAVE = auto()
    """It closes the connection and reads nothing."""
    RESET = auto()
    """The same with a TCP reset."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Bytes to send over a connection, and the answers that are due.

    Args:
        name: the variant within its kind.
        content: everything that is sent.
        due: one for each answer, in order; what comes beyond them is wrong.
        may_close: the connection may also be closed without an answer.
        must_close: the service must close the connection, after its answers or without any.
        reuses: goes over a connection on which others were answered, and leaves it for the next.
        cuts: offsets at which sending pauses.
        pause_s: length of each pause, and of the one before `ending`.
        is_slow: waits for the service more than it works, so it runs beside the other requests.
        is_for_grpc: goes to the gRPC port.
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
        """The number of requests."""
        return max(1, len(self.due))


@dataclass(slots=True)
class Outcome:
    """The answers to an attempt and what is wrong with them.

    Args:
        statuses: of HTTP as numbers, of gRPC as names; "left" and "closed" where there was no answer.
    """

    statuses: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        """Everything that came was expected, and nothing is missing."""
        return not (self.unexpected or self.wrong or self.lost)


def chance(draw: random.Random, share: float) -> bool:
    """Draw True with this probability."""
    return draw.random() < share


def due(*statuses: int, check: Check | None = None) -> tuple[Due, ...]:
    """One answer with one of these statuses."""
    return (Due(frozenset(statuses), check),)


def request(
    method: str, target: str, body: bytes = b"", headers: Sequence[tuple[str, str]] = (), *, close: bool = False
) -> bytes:
    """A request with a body of known length."""
    lines = [f"{method} {target} HTTP/1.1", "Host: attack", *(f"{name}: {value}" for name, value in headers)]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(method: str, target: str, chunks: Sequence[bytes], headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """A request whose body comes in chunks."""
    head = request(method, target, headers=[*headers, ("Transfer-Encoding", "chunked")]).replace(
        b"Content-Length: 0\r\n", b""
    )
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk) + b"0\r\n\r\n"


def query(path: str, **parameters: object) -> str:
    """A target with those parameters that are not None."""
    given = {name: value for name, value in parameters.items() if value is not None}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path
