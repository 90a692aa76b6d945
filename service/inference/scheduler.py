"""The scheduler: forms batches from the queues of all versions in turn, and delivers the results.

A batch is closed when it is full or when the runtime is free, whichever comes first: an idle runtime doesn't wait,
unless `max_batch_delay_s` says so. A batch has whole requests for one version, in order, up to a size. Requests are
queued and answered on the event loop. Threads take batches themselves, so that the runtime never waits for the event
loop between two batches.
"""

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal
from weakref import WeakKeyDictionary, ref

import numpy as np

from cifar10_serving.runtimes.base import Images, LoadedModel, Probabilities
from service.errors import CapacityLimit, UnavailableError, retry_after_s, stopping
from service.registry.version import ModelVersion

SMOOTHING: Final = 0.1
RETURN_SHARE: Final = 0.2
"""Part of a batch's time for which its clients are expected again."""
RETURN_RATE: Final = 0.5
EXPECT_EVERY: Final = 31
"""Number of batches after which clients that rarely return in time are expected once more."""
THREAD_NAME_PREFIX: Final = "compute"
BatchReason = Literal["full", "idle", "split", "delay", "in_place"]
"""The reason for a batch's release: it had the maximum size; the runtime was free; several calls were free and shared
the queued rows; `max_batch_delay_s` had passed; or a request was alone and was computed without a queue."""
QUICK_S: Final = 0.001
"""Computations up to this time may block the event loop, and are not worth waiting for a larger batch."""
MAX_BATCH_S: Final = 0.1
"""Time limit of a batch, so that the next model's turn comes soon and no deadline is far exceeded."""
EFFICIENT_BATCH_S: Final = 0.04
EFFICIENT_ROWS: Final = 8
"""Rows and time from which on a larger batch computes no faster per row. What it leaves in the queue is computed while
its clients are answered: MobileNetV2 at 64 connections 1.07 to 1.10 times the requests/s of batches of 32."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Computed:
    """The result of a request's rows, with the times in the queue and in the runtime."""

    probabilities: Probabilities
    queue_s: float
    compute_s: float
    batch_rows: int


@dataclass(eq=False, slots=True)
class WaitingRows:
    """The rows of one request: images (rows, height, width, 3) uint8, their deadline, and the caller's future."""

    images: Images
    answer: asyncio.Future[Computed]
    queued_s: float
    expires_s: float


class BatchQueue:
    """A FIFO queue in front of one version. It is used from several threads; the scheduler holds a lock.

    `requests` are queued, oldest first, with `rows` rows together; each row takes about `seconds_per_row`. `free_calls`
    more batches may be computed at the same time.

    Clients that send one request after the other return soon after their answer. So when a batch of a slow model ends,
    as many rows are expected again for a short time, and the next batch waits for its share of them. If they usually
    return too late, they are expected only once every `EXPECT_EVERY` batches, to notice when that changes.

    Args:
        version: the version; not kept alive, since queued requests hold a lease.
        max_calls: number of threads that compute.
    """

    def __init__(self, version: ModelVersion, max_calls: int = 1) -> None:
        self.version = ref(version)
        self.rows = 0
        self.seconds_per_row = version.row_s
        self._calls = self.free_calls = min(max_calls, version.model.parallel_calls if version.model else 1)
        self.requests: deque[WaitingRows] = deque()
        self._computing_rows = 0
        self._expected_rows = 0
        self._return_rate = 1.0
        """The recent share of expectations that were met."""
        self._expectations = 0
        self.expected_until_s = -math.inf

    @property
    def wait_s(self) -> float:
        """Estimated time to compute all queued rows."""
        return self.rows * self.seconds_per_row / self._calls

    @property
    def is_slow(self) -> bool:
        """True if an image takes so long that handing it to a thread and collecting a batch cost little."""
        return self.seconds_per_row > QUICK_S

    @property
    def share(self) -> int:
        """The rows of one call if all rows, queued, expected or being computed, are divided evenly."""
        return -(-(max(self.rows, self._expected_rows) + self._computing_rows) // self._calls)

    def started(self, rows: int, now_s: float) -> None:
        """Note that a batch is being computed."""
        if self._expected_rows > 1:
            was_met = now_s < self.expected_until_s or self.rows + rows >= self._expected_rows
            self._return_rate += SMOOTHING * (was_met - self._return_rate)
        self._expected_rows = max(0, self._expected_rows - rows)
        self._computing_rows += rows
        self.free_calls -= 1

    def ended(self, rows: int, compute_s: float, now_s: float) -> None:
        """Note that a batch was computed, and expect its clients again."""
        self.free_calls += 1
        self._computing_rows -= rows
        if now_s >= self.expected_until_s:
            self._expected_rows = 0
        self._expectations += 1
        if self.is_slow and (self._return_rate >= RETURN_RATE or self._expectations % EXPECT_EVERY == 0):
            self._expected_rows += rows
            self.expected_until_s = now_s + RETURN_SHARE * compute_s

    def take(self, max_rows: int, now_s: float) -> tuple[list[WaitingRows], int, list[WaitingRows]]:
        """Take the next batch: whole requests with at most this many rows together, or one larger request.

        Requests without a waiting caller are dropped and never computed.

        Returns:
            The batch, its number of rows, and the requests that were dropped because their deadline has passed.
        """
        batch: list[WaitingRows] = []
        expired: list[WaitingRows] = []
        rows = 0
        while self.requests:
            first = self.requests[0]
            if first.answer.done():
                pass
            elif now_s >= first.expires_s:
                expired.append(first)
            else:
                if batch and rows + len(first.images) > max_rows:
                    break
                batch.append(first)
                rows += len(first.images)
            self.requests.popleft()
            self.rows -= len(first.images)
        return batch, rows, expired

    def drop_answered(self) -> int:
        """Drop requests that already have an answer, such as a time-out; return their number of rows."""
        left = [waiting for waiting in self.requests if not waiting.answer.done()]
        rows = sum(len(waiting.images) for waiting in left)
        self.requests, dropped_rows = deque(left), self.rows - rows
        self.rows = rows
        return dropped_rows

    def measured(self, rows: int, compute_s: float) -> None:
        """Update the estimated time per row from a batch."""
        per_row_s = compute_s / rows
        if not self.seconds_per_row:
            self.seconds_per_row = per_row_s
        self.seconds_per_row += SMOOTHING * (per_row_s - self.seconds_per_row)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Limits of batches and queues."""

    max_batch_size: int = 32
    max_batch_delay_s: float = 0.0
    max_queue_size: int = 1024
    max_queue_size_per_model: int = 512


@dataclass(frozen=True, slots=True)
class _Batch:
    queue: BatchQueue
    version: ModelVersion | None
    requests: list[WaitingRows]
    rows: int
    closed_s: float
    reason: BatchReason
    is_alone: bool = False


@dataclass(frozen=True, slots=True)
class _Outcome:
    """One entry for each request of a batch: its probabilities, or its error."""

    results: list[Probabilities | Exception]
    compute_s: float


@dataclass(frozen=True, slots=True)
class _FullQueue:
    """The capacity limit of one version's queue."""

    queue: BatchQueue
    model: str
    max_rows: int

    def is_exhausted(self, ahead: int) -> bool:
        return self.queue.rows + ahead >= self.max_rows

    def error(self) -> UnavailableError:
        rows = self.queue.rows
        return UnavailableError(
            f"{rows:,} images are queued for {self.model}",
            retry_after_s=retry_after_s(1, self.queue.wait_s),
            capacity_limit=self,
        )


@dataclass(frozen=True, slots=True)
class _AllQueuesFull:
    """The capacity limit of all queues together."""

    scheduler: "Scheduler"

    def is_exhausted(self, ahead: int) -> bool:
        return self.scheduler.queue_rows + ahead >= self.scheduler.max_queue_size

    def error(self) -> UnavailableError:
        return UnavailableError(
            f"{self.scheduler.queue_rows:,} images are queued",
            retry_after_s=retry_after_s(1, self.scheduler.queue_s),
            capacity_limit=self,
        )


class Scheduler:
    """Queues in front of every version, and the threads that compute.

    Args:
        limits: limits of batches and queues.
        parallel_batches: number of batches that are computed at the same time, of all versions together.
        batch_computed: called for each batch with model, version, rows, seconds and the reason of its release.
        clock: returns the time for waits, deadlines and durations.
    """

    def __init__(
        self,
        limits: BatchLimits,
        *,
        parallel_batches: int = 1,
        batch_computed: Callable[[str, int, int, float, BatchReason], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_batch_size = limits.max_batch_size
        """Most rows that are computed at once, unless one request alone has more."""
        self._limits = limits
        self._batch_computed = batch_computed
        self._clock = clock
        self._lock = threading.Lock()
        """Guards the queues, their order and counts, and the set of running batches."""
        self._work = threading.Condition(self._lock)
        self._queues: WeakKeyDictionary[ModelVersion, BatchQueue] = WeakKeyDictionary()
        self._rotation: deque[BatchQueue] = deque()
        self._rows = 0
        self._computing: set[WaitingRows] = set()
        self._idle_threads = 0
        self._closed = False
        self._expiry_timer: asyncio.Handle | None = None
        self._expiry_due_s = math.inf
        """The time at which the timer is due, by the clock; uvloop's handle may not know it."""
        self._call: asyncio.Handle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = [
            threading.Thread(target=self._compute_forever, name=f"{THREAD_NAME_PREFIX}-{number}", daemon=True)
            for number in range(parallel_batches)
        ]

    @property
    def queue_rows(self) -> int:
        """Number of queued rows, of all versions."""
        return self._rows

    @property
    def max_queue_size(self) -> int:
        """Maximum number of queued rows, of all versions."""
        return self._limits.max_queue_size

    @property
    def queue_s(self) -> float:
        """Estimated time to compute all queued rows."""
        return sum(queue.wait_s for queue in list(self._rotation))

    def queue_rows_by_version(self) -> Counter[tuple[str, int]]:
        """Return the number of queued rows, by model and version number."""
        rows: Counter[tuple[str, int]] = Counter()
        with self._lock:
            for version, queue in self._queues.items():
                rows[version.name, version.version] += queue.rows
        return rows

    def capacity_limit(self, model: str, number: int) -> CapacityLimit | None:
        """Return the limit of a version's queue; None if nothing was queued for it yet."""
        with self._lock:
            for version, queue in self._queues.items():
                if (version.name, version.version) == (model, number):
                    return self._queue_limit(version, queue)
        return None

    def submit(self, version: ModelVersion, images: Images, expires_s: float) -> asyncio.Future[Computed]:
        """Queue a request's rows; the future brings their probabilities, an error of the runtime, or a TimeoutError.

        Cancelling the future, or setting an exception on it, drops the rows before they are computed.

        Args:
            version: a ready version, held by the caller until the future is done.
            images: (rows, height, width, 3) uint8 RGB 0..255.
            expires_s: the deadline in the clock's time; later the rows are not computed.

        Raises:
            UnavailableError: the queue is full, or the service is stopping.
        """
        now_s = self._clock()
        loop = self._loop or self._start()
        waiting = WaitingRows(images, loop.create_future(), now_s, expires_s)
        with self._lock:
            queue = self._queues.get(version) or self._add_queue(version)
            if self._rows or self._closed:
                self._check_room(version, queue, len(images))
            is_first = not queue.rows
            if is_first:
                self._rotation.append(queue)
            queue.requests.append(waiting)
            queue.rows += len(images)
            self._rows += len(images)
            may_start = self._idle_threads and queue.free_calls
            if may_start and not queue.is_slow:
                self._work.notify()
        if may_start and self._call is None and queue.is_slow and (is_first or queue.rows >= queue.share):
            # At the end of this tick of the event loop, so that rows that arrive together are computed together.
            self._call = loop.call_soon(self._call_thread)
        if expires_s < self._expiry_due_s:
            self._expire_at(expires_s)
        return waiting.answer

    def compute_now(self, version: ModelVersion, images: Images) -> Computed | None:
        """Compute at once, on the event loop, if that blocks it for less time than handing over to a thread would.

        Only for a request that is alone in the service: otherwise threads compute while the event loop reads other
        requests.

        Args:
            version: a ready version, held by the caller.
            images: (rows, height, width, 3) uint8 RGB 0..255.

        Returns:
            None if the rows should be submitted instead.
        """
        queue = self._queues.get(version) or self._add_queue(version)
        if not 0 < queue.seconds_per_row * len(images) <= QUICK_S or version.model is None:
            return None
        if self._closed or self._rows or self._computing or self._limits.max_batch_delay_s:
            return None
        start_s = self._clock()
        probabilities = version.model.predict_alone(images)
        compute_s = self._clock() - start_s
        queue.measured(len(images), compute_s)
        if self._batch_computed is not None:
            self._batch_computed(version.name, version.version, len(images), compute_s, "in_place")
        return Computed(probabilities, 0.0, compute_s, len(images))

    def close(self) -> None:
        """Compute nothing that hasn't started; waiting requests get 503."""
        with self._lock:
            self._closed = True
            left = [waiting for queue in self._rotation for waiting in queue.requests]
            self._work.notify_all()
        for waiting in left:
            _fail(waiting, stopping())
        if self._expiry_timer is not None:
            self._expiry_timer.cancel()

    def _add_queue(self, version: ModelVersion) -> BatchQueue:
        queue = self._queues[version] = BatchQueue(version, len(self._threads))
        return queue

    def _check_room(self, version: ModelVersion, queue: BatchQueue, rows: int) -> None:
        if self._closed:
            raise stopping()
        limits = self._limits
        if queue.rows and queue.rows + rows > limits.max_queue_size_per_model:
            raise self._queue_limit(version, queue).error()
        if self._rows and self._rows + rows > limits.max_queue_size:
            raise _AllQueuesFull(self).error()

    def _queue_limit(self, version: ModelVersion, queue: BatchQueue) -> _FullQueue:
        return _FullQueue(queue, version.name, self._limits.max_queue_size_per_model)

    def _start(self) -> asyncio.AbstractEventLoop:
        """Start the threads; return the running event loop, to which they deliver results."""
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
            thread.start()
        return self._loop

    def _call_thread(self) -> None:
        self._call = None
        with self._lock:
            self._work.notify()

    def _compute_forever(self) -> None:
        while (batch := self._next_batch()) is not None:
            outcome = _compute(batch, self._clock)
            with self._lock:
                batch.queue.ended(batch.rows, outcome.compute_s, self._clock())
            self._on_loop(self._finish, batch, outcome)

    def _next_batch(self) -> _Batch | None:
        """Wait for a batch, from each version in turn; return None when there will be no more."""
        with self._lock:
            while not self._closed:
                now_s = self._clock()
                queue, wait_s = self._next_queue(now_s)
                if queue is None:
                    self._idle_threads += 1
                    self._work.wait(wait_s)
                    self._idle_threads -= 1
                elif (batch := self._take(queue, now_s)) is not None:
                    return batch
        return None

    def _next_queue(self, now_s: float) -> tuple[BatchQueue | None, float | None]:
        """Return the next version in turn whose batch is closed; if there is none, the time until one closes."""
        first_closing_s, delay_s = math.inf, self._limits.max_batch_delay_s
        for _ in range(len(self._rotation)):
            queue = self._rotation.popleft()
            full_rows = self._max_rows(queue)
            if delay_s:
                closing_s = queue.requests[0].queued_s + delay_s
            else:
                closing_s, full_rows = queue.expected_until_s, min(full_rows, queue.share)
            if queue.free_calls and (now_s >= closing_s or queue.rows >= full_rows):
                return queue, None
            self._rotation.append(queue)
            if queue.free_calls:
                first_closing_s = min(first_closing_s, closing_s)
        return None, first_closing_s - now_s if first_closing_s < math.inf else None

    def _take(self, queue: BatchQueue, now_s: float) -> _Batch | None:
        rows_before = queue.rows
        size, reason = self._batch_size(queue)
        requests, rows, expired = queue.take(size, now_s)
        self._rows -= rows_before - queue.rows
        if queue.rows:
            self._rotation.append(queue)
            if queue.free_calls > 1:
                self._work.notify()
        for waiting in expired:
            self._on_loop(_fail, waiting, TimeoutError())
        if not requests:
            return None
        is_alone = rows == 1 and not self._computing and not self._rows and queue.is_slow
        queue.started(rows, now_s)
        self._computing.update(requests)
        return _Batch(queue, queue.version(), requests, rows, now_s, reason, is_alone)

    def _batch_size(self, queue: BatchQueue) -> tuple[int, BatchReason]:
        """Return the most rows of the next batch, and the reason for its release."""
        size = self._max_rows(queue)
        reason: BatchReason = "idle"
        if queue.rows >= size:
            return size, "full"
        if self._limits.max_batch_delay_s:
            return size, "delay"
        if not queue.is_slow or queue.share >= queue.rows:
            return size, reason
        return max(1, min(size, queue.share)), "split"

    def _max_rows(self, queue: BatchQueue) -> int:
        if not queue.seconds_per_row:
            return self._limits.max_batch_size
        row_s = queue.seconds_per_row
        efficient_rows = max(EFFICIENT_ROWS, int(EFFICIENT_BATCH_S / row_s))
        return min(self._limits.max_batch_size, efficient_rows, max(1, int(MAX_BATCH_S / row_s)))

    def _on_loop(self, function: Callable[..., None], *arguments: object) -> None:
        if self._loop is None:
            raise AssertionError("there was work before there was an event loop")
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is waiting
            self._loop.call_soon_threadsafe(function, *arguments)

    def _finish(self, batch: _Batch, outcome: _Outcome) -> None:
        rows = batch.rows
        with self._lock:
            self._computing.difference_update(batch.requests)
            batch.queue.measured(rows, outcome.compute_s)
        if self._batch_computed is not None and batch.version is not None:
            self._batch_computed(batch.version.name, batch.version.version, rows, outcome.compute_s, batch.reason)
        for request, result in zip(batch.requests, outcome.results, strict=True):
            if request.answer.done():
                continue
            if isinstance(result, Exception):
                request.answer.set_exception(result)
            else:
                queue_s = batch.closed_s - request.queued_s
                request.answer.set_result(Computed(result, queue_s, outcome.compute_s, rows))

    def _expire_at(self, expires_s: float) -> None:
        if self._expiry_timer is not None:
            self._expiry_timer.cancel()
        self._expiry_due_s = expires_s
        # Rounded up to a whole millisecond: uvloop counts in these, and a timer that fires early would only be set
        # again.
        delay_s = math.ceil(max(0.0, expires_s - self._clock()) * 1000) / 1000
        loop = self._loop or self._start()
        self._expiry_timer = loop.call_later(delay_s, self._expire)

    def _expire(self) -> None:
        """Answer requests whose deadline has passed; a running computation keeps its thread until it returns."""
        self._expiry_timer, self._expiry_due_s = None, math.inf
        now_s = self._clock()
        with self._lock:
            pending = [*self._computing, *(waiting for queue in self._rotation for waiting in queue.requests)]
        unanswered = [waiting for waiting in pending if not waiting.answer.done()]
        for waiting in unanswered:
            if waiting.expires_s <= now_s:
                _fail(waiting, TimeoutError())
        later_s = [waiting.expires_s for waiting in unanswered if waiting.expires_s > now_s]
        if len(later_s) < len(unanswered):
            self._drop_answered()
        if later_s:
            self._expire_at(min(later_s))

    def _drop_answered(self) -> None:
        """Drop answered rows, so that abandoned requests don't fill the queues."""
        with self._lock:
            self._rows -= sum(queue.drop_answered() for queue in self._rotation)
            self._rotation = deque(queue for queue in self._rotation if queue.rows)


def _compute(batch: _Batch, clock: Callable[[], float]) -> _Outcome:
    start_s = clock()
    model, requests = batch.version.model if batch.version is not None else None, batch.requests
    results: list[Probabilities | Exception]
    if model is None:
        return _Outcome([_withdrawn() for _ in requests], 0.0)
    predict = model.predict_alone if batch.is_alone else model.predict
    try:
        if len(requests) == 1:
            results = [predict(requests[0].images)]
        else:
            images = [request.images for request in requests]
            probabilities = predict(np.concatenate(images))
            ends = list(accumulate(map(len, images)))
            results = [probabilities[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    except Exception:
        logger.exception("a batch of %d requests failed; retrying each request alone", len(requests))
        results = [_compute_alone(model, request.images) for request in requests]
    return _Outcome(results, clock() - start_s)


def _compute_alone(model: LoadedModel, images: Images) -> Probabilities | Exception:
    try:
        return model.predict(images)
    except Exception as error:  # noqa: BLE001  # whatever the runtime raises belongs to this request alone
        return error


def _withdrawn() -> UnavailableError:
    return UnavailableError("the version was withdrawn while the request was queued", retry_after_s=1)


def _fail(waiting: WaitingRows, error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)
