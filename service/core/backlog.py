"""The requests that were read and wait for the event loop to begin them, and whether one more would be in vain.

In each of its turns the event loop begins a bounded number, so that a turn is short however many there are: what comes
meanwhile is read, and put in line or refused, within milliseconds. What a request was refused for holds for all that
ask for the same until it is over, so that they are refused before anything is done for them.

How many requests may be inside is `admission`'s part, how many rows may wait for a version `scheduler`'s, and how HTTP
says that one is refused `service.http_protocol`'s.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from service.core.admission import Admission
from service.errors import UnavailableError

BEGUN_IN_A_TURN: Final = 8
"""Together they take the event loop some milliseconds."""
MOST_TARGETS: Final = 1000
REFUSAL_IS_NEW_S: Final = 0.1

Version = tuple[str, int]


class Refusal:
    """Why requests are refused at the moment, and by which version, where it is known.

    Args:
        error: what they are told.
        version: name and number; None where the service as a whole is full.
        persists: whether the reason still holds.
    """

    __slots__ = ("error", "persists", "responses", "version")

    def __init__(self, error: UnavailableError, version: Version | None, persists: Callable[[], bool]) -> None:
        self.error = error
        self.version = version
        self.persists = persists
        self.responses: dict[tuple[bool, bool], bytes] = {}
        """Whole responses that say so, by their form; the protocol makes and keeps them."""


@dataclass(slots=True)
class Begun:
    """What the backlog knows of a request that has begun.

    `target` is what it asks for; `waited_s` how long it waited; `refused` why it is not to be answered, if so.
    """

    backlog: "Backlog"
    target: bytes
    waited_s: float = 0.0
    refused: Exception | None = None


class Backlog:
    """A first-in, first-out line in front of the event loop's work. Used from one thread, the event loop's.

    Args:
        admission: counts the requests that have begun; those in line take up its room, too.
        max_requests: in line.
        each_turn: called in each turn of the event loop in which requests begin or wait.
    """

    def __init__(self, admission: Admission, max_requests: int) -> None:
        self.admission = admission
        self.each_turn: Callable[[], None] | None = None
        self._max_requests = max_requests
        self._waiting: deque[tuple[Callable[[float], None], float]] = deque()
        self._begun = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._full: dict[bytes, Refusal] = {}
        self._whole: Refusal | None = None
        self._whole_s = 0.0
        self._refused: Counter[Version | None] = Counter()

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return len(self._waiting)

    @property
    def pending(self) -> int:
        """Requests in line, and those that have begun."""
        return self.admission.pending + len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether requests are refused whatever they ask for."""
        return len(self._waiting) >= self._max_requests or self.pending >= self.admission.max_pending

    @property
    def refuses(self) -> bool:
        """Whether any request is refused at the moment, which is quickly told."""
        return self.is_full or bool(self._full)

    def refusal(self, target: bytes) -> Refusal | None:
        """Why a request that asks for this is to be refused, or None."""
        if self.is_full:
            now_s = time.monotonic()
            if self._whole is None or now_s > self._whole_s + REFUSAL_IS_NEW_S:
                error = self.admission.overloaded(self.pending)
                self._whole, self._whole_s = Refusal(error, None, lambda: self.is_full), now_s
            return self._whole
        found = self._full.get(target)
        if found is not None and not found.persists():
            del self._full[target]
            return None
        return found

    def refuse_alike(self, target: bytes, refusal: Refusal) -> None:
        """Refuse whatever asks for the same, as long as the reason holds."""
        if len(self._full) >= MOST_TARGETS:
            self._full.clear()
        self._full[target] = refusal

    def refused(self, refusal: Refusal) -> None:
        """Count a request that was refused without being begun."""
        self._refused[refusal.version] += 1

    def take_refused(self) -> Counter[Version | None]:
        """How many were refused without being begun since the last call, by version."""
        taken, self._refused = self._refused, Counter()
        return taken

    def add(self, begin: Callable[[float], None]) -> None:
        """Begin a request in this turn of the event loop, or, where enough have begun, in a later one.

        Args:
            begin: called with the seconds that the request has waited; it must be quick.
        """
        if self._begun == 0 and not self._waiting:
            self._loop = self._loop or asyncio.get_running_loop()
            self._loop.call_soon(self._turn)
        if self._begun < BEGUN_IN_A_TURN and not self._waiting:
            self._begun += 1
            begin(0.0)
        else:
            self._waiting.append((begin, time.monotonic()))

    def _turn(self) -> None:
        self._begun = 0
        now_s = time.monotonic()
        while self._waiting and self._begun < BEGUN_IN_A_TURN:
            begin, since_s = self._waiting.popleft()
            self._begun += 1
            begin(now_s - since_s)
        if self.each_turn is not None:
            self.each_turn()
        if self._begun and self._loop is not None:
            self._loop.call_soon(self._turn)
