"""Admission: which requests may begin, how many wait in front of the event loop, and load shedding for the others."""

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from service.errors import CapacityLimit, UnavailableError, retry_after_s
from service.telemetry.trace import Trace

SMOOTHING: Final = 0.1


class Exchange(Protocol):
    """One request for predictions, whatever its protocol."""

    @property
    def trace(self) -> Trace:
        """Notes for logs and metrics."""
        ...

    @property
    def ticket(self) -> "Ticket | None":
        """Load shedding's record of the request; None where it waited in no backlog."""
        ...


class Admission:
    """A bounded number of slots, and a bounded number of bytes in them. Used from one thread, the event loop's.

    `pending` slots are in use, and `pending_bytes` are held in them; at `last_answer_s` one was given back.

    Args:
        max_pending: slots.
        max_pending_bytes: of the bodies that are held in memory, together.
        clock: by which answers, waits and rejections are timed.
    """

    def __init__(self, max_pending: int, max_pending_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.max_pending = max_pending
        self.max_pending_bytes = max_pending_bytes
        self.pending = 0
        self.pending_bytes = 0
        self.last_answer_s = 0.0
        self._seconds_between_answers = 0.0

    def slot(self, exchange: Exchange | None = None) -> "Slot":
        """Return a slot that is held while the `with` block runs.

        Args:
            exchange: the request for predictions that takes it; None for other work.

        Raises:
            UnavailableError: on entering, where all are in use; with the time until they have drained.
        """
        return Slot(self, exchange)

    def overloaded(self, pending: int) -> UnavailableError:
        """The error of a request that found so many before it."""
        return UnavailableError(
            f"{pending:,} requests are being received, queued or computed",
            retry_after_s=retry_after_s(pending, self._seconds_between_answers),
        )

    def too_many_bytes(self) -> UnavailableError:
        """The error of a request that found too many bytes before it."""
        return UnavailableError(
            f"the {self.pending:,} requests before this one hold {self.pending_bytes:,} bytes",
            retry_after_s=retry_after_s(self.pending, self._seconds_between_answers),
        )

    def stay(self) -> None:
        """Take a slot for work that goes on after its request was answered; `leave` gives it back."""
        self.pending += 1

    def leave(self, held_bytes: int = 0) -> None:
        """Give a slot back, and the bytes in it."""
        now_s = self.clock()
        self.pending -= 1
        self.pending_bytes -= held_bytes
        self._seconds_between_answers += SMOOTHING * (now_s - self.last_answer_s - self._seconds_between_answers)
        self.last_answer_s = now_s


class Slot:
    """A place for one request, and for the bytes of its body; held while a `with` block runs.

    Where the block of a request for predictions ends for want of capacity, requests for the same are rejected early.
    """

    __slots__ = ("_admission", "_exchange", "_held_bytes")

    def __init__(self, admission: Admission, exchange: Exchange | None) -> None:
        self._admission = admission
        self._exchange = exchange
        self._held_bytes = 0

    def __enter__(self) -> Self:
        """Take the place."""
        admission, exchange = self._admission, self._exchange
        if exchange is not None:
            exchange.trace.is_inference = True
            if exchange.ticket is not None and exchange.ticket.rejected is not None:
                raise exchange.ticket.rejected
        if admission.pending >= admission.max_pending:
            raise admission.overloaded(admission.pending)
        if admission.pending == 0:
            admission.last_answer_s = admission.clock()
        admission.pending += 1
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Give it back, with its bytes."""
        self._admission.leave(self._held_bytes)
        if isinstance(error, UnavailableError) and self._exchange is not None and self._exchange.ticket is not None:
            self._exchange.ticket.mark_saturated(error, self._exchange.trace)

    def hold_bytes(self, size_bytes: int) -> None:
        """Count bytes that the request now holds.

        Raises:
            UnavailableError: all requests together would hold too many.
        """
        admission = self._admission
        if admission.pending_bytes and admission.pending_bytes + size_bytes > admission.max_pending_bytes:
            raise admission.too_many_bytes()
        admission.pending_bytes += size_bytes
        self._held_bytes += size_bytes


MAX_STARTS_PER_TICK: Final = 8
"""Together they take the event loop some milliseconds."""
MAX_TARGETS: Final = 1000
NEW_S: Final = 0.1
"""How long a refusal tells the same before it is made anew."""
FORGOTTEN_AFTER_S: Final = 1.0

Version = tuple[str, int]


class Rejection:
    """Why requests are refused at the moment, and by which version, where it is known.

    Args:
        capacity_limit: what there is too little of.
        version: name and number; None where the service as a whole is full.
    """

    __slots__ = ("capacity_limit", "error", "made_s", "responses", "version")

    def __init__(self, capacity_limit: CapacityLimit, version: Version | None = None) -> None:
        self.capacity_limit = capacity_limit
        self.version = version
        self.error: UnavailableError
        self.made_s = -math.inf

    def renew(self, now_s: float) -> None:
        """Have it tell how it is now."""
        self.error = self.capacity_limit.error()
        self.made_s = now_s
        self.responses: dict[tuple[bool, bool], bytes] = {}
        """Whole responses that say so, by their form; the protocol makes and keeps them."""


@dataclass(slots=True)
class Ticket:
    """What the backlog knows of a request that has begun.

    `target` is what it asks for; `waited_s` how long it waited; `rejected` why it is not to be answered, if so.
    """

    backlog: "Backlog"
    target: bytes
    waited_s: float = 0.0
    rejected: Exception | None = None

    def mark_saturated(self, error: UnavailableError, trace: Trace) -> None:
        """Reject whatever asks for the same before it is parsed, as long as there is no capacity for it."""
        if error.capacity_limit is not None:
            version = None if trace.model is None else (trace.model, trace.version or 0)
            self.backlog.reject_same_target(self.target, Rejection(error.capacity_limit, version))


class Backlog:
    """A first-in, first-out line in front of the event loop's work. Used from one thread, the event loop's.

    Args:
        admission: counts the requests that have begun; those in line take up its room, too.
        max_requests: in line.
    """

    def __init__(self, admission: Admission, max_requests: int) -> None:
        self.admission = admission
        self._clock = admission.clock
        self.on_tick: Callable[[], None] | None = None
        """Called in each turn of the event loop in which requests begin or wait."""
        self._max_requests = max_requests
        self._waiting: deque[tuple[bytes, Callable[[float], None], float]] = deque()
        self._begun = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting_for: Counter[bytes] = Counter()
        self._full: dict[bytes, Rejection] = {}
        self._whole = Rejection(self)
        self._rejected: Counter[Version | None] = Counter()

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
        waiting = len(self._waiting)
        return waiting >= self._max_requests or self.admission.pending + waiting >= self.admission.max_pending

    @property
    def rejects(self) -> bool:
        """Whether any request is refused at the moment, which is quickly told."""
        return bool(self._full) or self.is_full

    def is_exhausted(self, ahead: int) -> bool:
        """Whether it is full; the backlog itself is a shortage."""
        return self.is_full or ahead >= self._max_requests

    def error(self) -> UnavailableError:
        """The error of a request that finds it full."""
        return self.admission.overloaded(self.pending)

    def rejection(self, target: bytes) -> Rejection | None:
        """Why a request that asks for this is to be refused, or None.

        Those in line that ask for the same count as if they were where they are on their way to: none that is let in
        waits in vain.
        """
        now_s = self._clock()
        found = self._whole if self.is_full else self._full.get(target)
        if found is None:
            return None
        if found is not self._whole and not found.capacity_limit.is_exhausted(self._waiting_for[target]):
            if now_s > found.made_s + FORGOTTEN_AFTER_S:
                del self._full[target]
            return None
        if now_s > found.made_s + NEW_S:
            found.renew(now_s)
        return found

    def reject_same_target(self, target: bytes, rejection: Rejection) -> None:
        """Refuse whatever asks for the same, whenever there is too little for it."""
        if len(self._full) >= MAX_TARGETS:
            self._full.clear()
        rejection.renew(self._clock())
        self._full[target] = rejection

    def rejected(self, rejection: Rejection) -> None:
        """Count a request that was refused without being begun."""
        self._rejected[rejection.version] += 1

    def take_rejected(self) -> Counter[Version | None]:
        """How many were refused without being begun since the last call, by version."""
        taken, self._rejected = self._rejected, Counter()
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
        if self._begun < MAX_STARTS_PER_TICK and not self._waiting:
            self._begun += 1
            begin(0.0)
        else:
            self._waiting.append((target, begin, self._clock()))
            self._waiting_for[target] += 1

    def _turn(self) -> None:
        self._begun = 0
        now_s = self._clock()
        try:
            while self._waiting and self._begun < MAX_STARTS_PER_TICK:
                self._begun += 1
                self._begin_first(now_s)
            if self.on_tick is not None:
                self.on_tick()
        finally:  # whatever happens to one, the others have their turns
            if self._begun and self._loop is not None:
                self._loop.call_soon(self._turn)

    def _begin_first(self, now_s: float) -> None:
        target, begin, since_s = self._waiting.popleft()
        self._waiting_for[target] -= 1
        if not self._waiting_for[target]:
            del self._waiting_for[target]
        begin(now_s - since_s)
