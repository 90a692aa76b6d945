"""Admission: slots for requests, the backlog in front of the event loop, and load shedding."""

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
MAX_STARTS_PER_TICK: Final = 8
"""Number of requests that take the event loop a few milliseconds."""
MAX_UNCHECKED: Final = 64
"""Number of queued requests from which on a new one is checked against what is known of its target's capacity."""
MAX_TARGETS: Final = 1000
NEW_S: Final = 0.1
"""Time for which a rejection is reused."""
FORGOTTEN_AFTER_S: Final = 1.0
Version = tuple[str, int]


class Exchange(Protocol):
    """A prediction request of any protocol."""

    @property
    def trace(self) -> Trace:
        """The request's trace."""
        ...

    @property
    def ticket(self) -> "Ticket | None":
        """The backlog's record of the request; None if it was not in a backlog."""
        ...


class Admission:
    """A bounded number of slots, with a bounded number of bytes in them; used only from the event loop's thread.

    `pending` slots are in use and hold `pending_bytes`; the last one was freed at `last_answer_s`.

    Args:
        max_pending: number of slots.
        max_pending_bytes: limit for the bodies in memory, of all requests together.
        clock: returns the time of answers, waits and rejections.
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
            exchange: the prediction request that takes it; None for other work.

        Raises:
            UnavailableError: on entering, if all slots are in use; with the time until they have drained.
        """
        return Slot(self, exchange)

    def overloaded(self, pending: int) -> UnavailableError:
        """Return the error for a request with this many others ahead of it."""
        return UnavailableError(
            f"{pending:,} requests are being received, queued or computed",
            retry_after_s=retry_after_s(pending, self._seconds_between_answers),
        )

    def too_many_bytes(self) -> UnavailableError:
        """Return the error for a request with too many bytes ahead of it."""
        return UnavailableError(
            f"the {self.pending:,} requests before this one hold {self.pending_bytes:,} bytes",
            retry_after_s=retry_after_s(self.pending, self._seconds_between_answers),
        )

    def stay(self) -> None:
        """Take a slot for work that outlives its request; `leave` frees it."""
        self.pending += 1

    def leave(self, held_bytes: int = 0) -> None:
        """Free a slot and the bytes in it."""
        now_s = self.clock()
        self.pending -= 1
        self.pending_bytes -= held_bytes
        self._seconds_between_answers += SMOOTHING * (now_s - self.last_answer_s - self._seconds_between_answers)
        self.last_answer_s = now_s


@dataclass(eq=False, slots=True)
class Slot:
    """A slot for one request and the bytes of its body; held while a `with` block runs.

    If a prediction request fails for lack of capacity, similar requests are then rejected before they are parsed. From
    one that succeeds, the backlog learns which capacity similar requests need.
    """

    admission: Admission
    exchange: Exchange | None = None
    held_bytes: int = 0

    def __enter__(self) -> Self:
        """Take the slot."""
        admission, exchange = self.admission, self.exchange
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
        """Free the slot and its bytes."""
        self.admission.leave(self.held_bytes)
        exchange = self.exchange
        if exchange is None or exchange.ticket is None:
            return
        if error is None:
            exchange.ticket.learn_limit(exchange.trace)
        elif isinstance(error, UnavailableError):
            exchange.ticket.mark_saturated(error, exchange.trace)

    def hold_bytes(self, size_bytes: int) -> None:
        """Count bytes that the request holds from now on.

        Raises:
            UnavailableError: all requests together would hold too many.
        """
        admission = self.admission
        if admission.pending_bytes and admission.pending_bytes + size_bytes > admission.max_pending_bytes:
            raise admission.too_many_bytes()
        admission.pending_bytes += size_bytes
        self.held_bytes += size_bytes


class Rejection:
    """The reason for current rejections, and the version concerned.

    Args:
        capacity_limit: the exhausted resource.
        version: name and number; None if the whole service is overloaded.
    """

    __slots__ = ("capacity_limit", "error", "made_s", "responses", "version")

    def __init__(self, capacity_limit: CapacityLimit, version: Version | None = None) -> None:
        self.capacity_limit = capacity_limit
        self.version = version
        self.error: UnavailableError
        self.made_s = -math.inf

    def renew(self, now_s: float) -> None:
        """Update the reason to the current state, unless that was done a moment ago."""
        if now_s <= self.made_s + NEW_S:
            return
        self.error = self.capacity_limit.error()
        self.made_s = now_s
        self.responses: dict[tuple[bool, bool], bytes] = {}
        """Prerendered responses by their form, created and cached by the protocol."""


@dataclass(slots=True)
class Ticket:
    """The backlog's record of a request.

    `target` is its path and query, `waited_s` the time in the backlog, and `rejected` the reason if it must be
    rejected.
    """

    backlog: "Backlog"
    target: bytes
    waited_s: float = 0.0
    rejected: Exception | None = None

    def mark_saturated(self, error: UnavailableError, trace: Trace) -> None:
        """Reject requests for the same target before they are parsed, until there is capacity again."""
        if error.capacity_limit is not None:
            version = None if trace.model is None else (trace.model, trace.version or 0)
            self.backlog.reject_same_target(self.target, Rejection(error.capacity_limit, version))

    def learn_limit(self, trace: Trace) -> None:
        """Remember the capacity that requests for the same target need."""
        if trace.model is not None:
            self.backlog.learn_limit(self.target, (trace.model, trace.version or 0))


class Backlog:
    """A FIFO queue in front of the event loop's work; used only from the event loop's thread.

    Args:
        admission: counts the started requests; queued ones count towards its limit as well.
        max_requests: maximum number of queued requests.
    """

    def __init__(self, admission: Admission, max_requests: int) -> None:
        self.admission = admission
        self._clock = admission.clock
        self.on_tick: Callable[[], None] | None = None
        """Called in each tick of the event loop in which requests start or wait."""
        self.limit_of: Callable[[str, int], CapacityLimit | None] | None = None
        """Returns the capacity limit of a version, by name and number."""
        self._max_requests = max_requests
        self._queue: deque[tuple[bytes, Callable[[float], None], float]] = deque()
        self._started = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queued_by_target: Counter[bytes] = Counter()
        self._full: dict[bytes, Rejection] = {}
        self._known: dict[bytes, Rejection] = {}
        """The capacity that requests for a target need, learned from those that were answered."""
        self._whole = Rejection(self)
        self._rejected: Counter[Version | None] = Counter()

    @property
    def queued(self) -> int:
        """Number of queued requests."""
        return len(self._queue)

    @property
    def pending(self) -> int:
        """Number of queued and started requests."""
        return self.admission.pending + len(self._queue)

    @property
    def is_full(self) -> bool:
        """True if all requests are rejected."""
        queued = len(self._queue)
        return queued >= self._max_requests or self.admission.pending + queued >= self.admission.max_pending

    @property
    def rejects(self) -> bool:
        """True if any request may be rejected now; cheap to evaluate."""
        return bool(self._full) or self.is_full or len(self._queue) >= MAX_UNCHECKED

    def is_exhausted(self, ahead: int) -> bool:
        """Return whether it is full; the backlog itself is a capacity limit."""
        return self.is_full or ahead >= self._max_requests

    def error(self) -> UnavailableError:
        """Return the error for a request that finds it full."""
        return self.admission.overloaded(self.pending)

    def rejection(self, target: bytes) -> Rejection | None:
        """Return the reason to reject a request for this target, or None.

        Queued requests for the same target count as if they had already started, so that no accepted request waits for
        nothing.
        """
        now_s = self._clock()
        found = self._whole if self.is_full else self._full.get(target)
        if found is None and (known := self._known.get(target)) is not None:
            if not known.capacity_limit.is_exhausted(self._queued_by_target[target]):
                return None
            found = self._full[target] = known
        if found is None:
            return None
        if found is not self._whole and not found.capacity_limit.is_exhausted(self._queued_by_target[target]):
            if now_s > found.made_s + FORGOTTEN_AFTER_S:
                del self._full[target]
            return None
        found.renew(now_s)
        return found

    def reject_same_target(self, target: bytes, rejection: Rejection) -> None:
        """Reject requests for the same target while the resource is exhausted."""
        if len(self._full) >= MAX_TARGETS:
            self._full.clear()
        rejection.renew(self._clock())
        self._full[target] = rejection

    def learn_limit(self, target: bytes, version: Version) -> None:
        """Remember that requests for this target need the capacity of this version.

        So when many arrive at once, those that will find its queue full are rejected before any has found it so.
        """
        known = self._known.get(target)
        if (known is not None and known.version == version) or self.limit_of is None:
            return
        if len(self._known) >= MAX_TARGETS:
            self._known.clear()
        if (limit := self.limit_of(*version)) is not None:
            self._known[target] = Rejection(limit, version)

    def exhausted(self, target: bytes) -> Rejection | None:
        """Return the reason to reject a request that was queued, or None; those behind it don't count."""
        found = self._full.get(target)
        if found is None or not found.capacity_limit.is_exhausted(0):
            return None
        found.renew(self._clock())
        return found

    def rejected(self, rejection: Rejection) -> None:
        """Count a request that was rejected without being started."""
        self._rejected[rejection.version] += 1

    def take_rejected(self) -> Counter[Version | None]:
        """Return the number of requests rejected without being started since the last call, by version."""
        taken, self._rejected = self._rejected, Counter()
        return taken

    def add(self, target: bytes, start: Callable[[float], None]) -> None:
        """Start a request in this tick of the event loop or, if enough have started, in a later one.

        Args:
            target: the request's path and query.
            start: called with the time in seconds that the request has waited; it must be fast.
        """
        if self._started == 0 and not self._queue:
            self._loop = self._loop or asyncio.get_running_loop()
            self._loop.call_soon(self._tick)
        if self._started < MAX_STARTS_PER_TICK and not self._queue:
            self._started += 1
            start(0.0)
        else:
            self._queue.append((target, start, self._clock()))
            self._queued_by_target[target] += 1

    def _tick(self) -> None:
        self._started = 0
        now_s = self._clock()
        try:
            while self._queue and self._started < MAX_STARTS_PER_TICK:
                self._started += 1
                target, start, since_s = self._queue.popleft()
                self._queued_by_target[target] -= 1
                if not self._queued_by_target[target]:
                    del self._queued_by_target[target]
                start(now_s - since_s)
            if self.on_tick is not None:
                self.on_tick()
        finally:  # an exception must not stop the others
            if self._started and self._loop is not None:
                self._loop.call_soon(self._tick)
