"""The requests that were read and wait for the event loop to begin them, and whether one more would be in vain.

In each of its turns the event loop begins a bounded number, so that a turn is short however many there are: what comes
meanwhile is read, and put in line or refused, within milliseconds. What a request was refused for holds for all that
ask for the same until it is over, so that they are refused before anything is done for them.

How many requests may be inside is `admission`'s part, how many rows may wait for a version `scheduler`'s, and how HTTP
says that one is refused `service.http_protocol`'s.
"""

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from service.core.admission import Admission
from service.errors import Shortage, UnavailableError

BEGUN_IN_A_TURN: Final = 8
"""Together they take the event loop some milliseconds."""
MOST_TARGETS: Final = 1000
NEW_S: Final = 0.1
"""How long a refusal tells the same before it is made anew."""
FORGOTTEN_AFTER_S: Final = 1.0

Version = tuple[str, int]


class Refusal:
    """Why requests are refused at the moment, and by which version, where it is known.

    Args:
        shortage: what there is too little of.
        version: name and number; None where the service as a whole is full.
    """

    __slots__ = ("error", "made_s", "responses", "shortage", "version")

    def __init__(self, shortage: Shortage, version: Version | None = None) -> None:
        self.shortage = shortage
        self.version = version
        self.error: UnavailableError
        self.made_s = -math.inf

    def renew(self) -> None:
        """Have it tell how it is now."""
        self.error = self.shortage.error()
        self.made_s = time.monotonic()
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
    """

    def __init__(self, admission: Admission, max_requests: int) -> None:
        self.admission = admission
        self.each_turn: Callable[[], None] | None = None
        """Called in each turn of the event loop in which requests begin or wait."""
        self._max_requests = max_requests
        self._waiting: deque[tuple[bytes, Callable[[float], None], float]] = deque()
        self._begun = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting_for: Counter[bytes] = Counter()
        self._full: dict[bytes, Refusal] = {}
        self._whole = Refusal(self)
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

    def holds(self, ahead: int) -> bool:
        """Whether it is full; the backlog itself is a shortage."""
        return self.is_full or ahead >= self._max_requests

    def error(self) -> UnavailableError:
        """The error of a request that finds it full."""
        return self.admission.overloaded(self.pending)

    def refusal(self, target: bytes) -> Refusal | None:
        """Why a request that asks for this is to be refused, or None.

        Those in line that ask for the same count as if they were where they are on their way to: none that is let in
        waits in vain.
        """
        now_s = time.monotonic()
        found = self._whole if self.is_full else self._full.get(target)
        if found is None:
            return None
        if found is not self._whole and not found.shortage.holds(self._waiting_for[target]):
            if now_s > found.made_s + FORGOTTEN_AFTER_S:
                del self._full[target]
            return None
        if now_s > found.made_s + NEW_S:
            found.renew()
        return found

    def refuse_alike(self, target: bytes, refusal: Refusal) -> None:
        """Refuse whatever asks for the same, whenever there is too little for it."""
        if len(self._full) >= MOST_TARGETS:
            self._full.clear()
        refusal.renew()
        self._full[target] = refusal

    def refused(self, refusal: Refusal) -> None:
        """Count a request that was refused without being begun."""
        self._refused[refusal.version] += 1

    def take_refused(self) -> Counter[Version | None]:
        """How many were refused without being begun since the last call, by version."""
        taken, self._refused = self._refused, Counter()
        return taken

    def add(self, target: bytes, begin: Callable[[float], None]) -> None:
        """Begin a request in this turn of the event loop, or, where enough have begun, in a later one.

        Args:
            target: what it asks for.
            begin: called with the seconds that the request has waited; it must be quick.
        """
        if self._begun == 0 and not self._waiting:
            self._loop = self._loop or asyncio.get_running_loop()
            self._loop.call_soon(self._turn)
        if self._begun < BEGUN_IN_A_TURN and not self._waiting:
            self._begun += 1
            begin(0.0)
        else:
            self._waiting.append((target, begin, time.monotonic()))
            self._waiting_for[target] += 1

    def _turn(self) -> None:
        self._begun = 0
        now_s = time.monotonic()
        try:
            while self._waiting and self._begun < BEGUN_IN_A_TURN:
                self._begun += 1
                self._begin_first(now_s)
            if self.each_turn is not None:
                self.each_turn()
        finally:  # whatever happens to one, the others have their turns
            if self._begun and self._loop is not None:
                self._loop.call_soon(self._turn)

    def _begin_first(self, now_s: float) -> None:
        target, begin, since_s = self._waiting.popleft()
        self._waiting_for[target] -= 1
        if not self._waiting_for[target]:
            del self._waiting_for[target]
        begin(now_s - since_s)
