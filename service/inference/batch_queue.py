"""The rows that wait for one version, and how batches are taken from them: whole requests, in order, up to a size.

Knows nothing of threads or of other versions: when a batch is taken, and what computes it, is `scheduler`'s part.
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
    """What came of a request's rows, and how long they waited and were computed."""

    probabilities: Probabilities
    queue_s: float
    compute_s: float
    batch_rows: int


@dataclass(eq=False, slots=True)
class WaitingRows:
    """The rows of one request: images (rows, height, width, 3) uint8, until when they are wanted, and who waits."""

    images: Images
    answer: asyncio.Future[Computed]
    queued_s: float
    expires_s: float


class BatchQueue:
    """A first-in, first-out queue in front of one version. Its user guards it: it is used from several threads.

    `rows` wait; each takes about `seconds_per_row`; `free_calls` more batches may be computed beside those that are.

    Args:
        version: computes the batches; not kept alive, since what waits for it holds a lease.
    """

    def __init__(self, version: ModelVersion) -> None:
        self.version = ref(version)
        self.rows = 0
        self.seconds_per_row = version.row_s
        self.free_calls = version.model.parallel_calls if version.model is not None else 1
        self._waiting: deque[WaitingRows] = deque()

    def __iter__(self) -> Iterator[WaitingRows]:
        """The requests that wait, oldest first."""
        return iter(self._waiting)

    @property
    def oldest_s(self) -> float:
        """When the first request came; the queue must not be empty."""
        return self._waiting[0].queued_s

    def append(self, waiting: WaitingRows) -> None:
        """Put a request at the end."""
        self._waiting.append(waiting)
        self.rows += len(waiting.images)

    def take(self, most_rows: int, now_s: float) -> tuple[list[WaitingRows], int, list[WaitingRows]]:
        """The next batch: whole requests of together at most so many rows, or one that alone has more.

        Requests that nobody waits for any more are dropped on the way, never computed.

        Returns:
            The batch, its rows, and what was dropped because its time is over.
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
        """Let go of the requests that have their answer already, such as a time-out; return how many rows that was."""
        left = [waiting for waiting in self._waiting if not waiting.answer.done()]
        rows = sum(len(waiting.images) for waiting in left)
        self._waiting, dropped_rows = deque(left), self.rows - rows
        self.rows = rows
        return dropped_rows

    def measured(self, rows: int, compute_s: float) -> None:
        """Learn from a batch how long a row takes."""
        per_row_s = compute_s / rows
        if not self.seconds_per_row:
            self.seconds_per_row = per_row_s
        self.seconds_per_row += SMOOTHING * (per_row_s - self.seconds_per_row)
