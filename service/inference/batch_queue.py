"""The queue of one version, and how batches are taken from it: whole requests, in order, up to a size.

It knows nothing about threads or other versions; `scheduler` decides when a batch is taken and what computes it.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from weakref import ref

from cifar10_serving.runtimes.base import Images, Probabilities
from service.registry.version import ModelVersion

SMOOTHING: Final = 0.1


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
    """A FIFO queue in front of one version. It is used from several threads; its user holds a lock.

    `rows` are queued; each takes about `seconds_per_row`. `free_calls` more batches may be computed at the same time.

    Args:
        version: the version; not kept alive, since queued requests hold a lease.
    """

    def __init__(self, version: ModelVersion) -> None:
        self.version = ref(version)
        self.rows = 0
        self.seconds_per_row = version.row_s
        self.free_calls = version.model.parallel_calls if version.model is not None else 1
        self._waiting: deque[WaitingRows] = deque()

    def __iter__(self) -> Iterator[WaitingRows]:
        """Iterate over the queued requests, oldest first."""
        return iter(self._waiting)

    @property
    def oldest_s(self) -> float:
        """Return the time of the oldest request; the queue must not be empty."""
        return self._waiting[0].queued_s

    def append(self, waiting: WaitingRows) -> None:
        """Add a request at the end."""
        self._waiting.append(waiting)
        self.rows += len(waiting.images)

    def take(self, most_rows: int, now_s: float) -> tuple[list[WaitingRows], int, list[WaitingRows]]:
        """Take the next batch: whole requests with at most this many rows together, or one larger request.

        Requests without a waiting caller are dropped and never computed.

        Returns:
            The batch, its number of rows, and the requests that were dropped because their deadline has passed.
        """
        batch: list[WaitingRows] = []
        expired: list[WaitingRows] = []
        rows = 0
        while self._waiting:
            first = self._waiting[0]
            if first.answer.done():
                pass
            elif now_s >= first.expires_s:
                expired.append(first)
            else:
                if batch and rows + len(first.images) > most_rows:
                    break
                batch.append(first)
                rows += len(first.images)
            self._waiting.popleft()
            self.rows -= len(first.images)
        return batch, rows, expired

    def drop_answered(self) -> int:
        """Drop requests that already have an answer, such as a time-out; return their number of rows."""
        left = [waiting for waiting in self._waiting if not waiting.answer.done()]
        rows = sum(len(waiting.images) for waiting in left)
        self._waiting, dropped_rows = deque(left), self.rows - rows
        self.rows = rows
        return dropped_rows

    def measured(self, rows: int, compute_s: float) -> None:
        """Update the estimated time per row from a batch."""
        per_row_s = compute_s / rows
        if not self.seconds_per_row:
            self.seconds_per_row = per_row_s
        self.seconds_per_row += SMOOTHING * (per_row_s - self.seconds_per_row)
