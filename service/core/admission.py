"""How many requests may be in the service at once: one more is turned away within microseconds, not queued.

Counts requests from their head to their answer, and work that outlived its deadline until it returns. When to
come back is estimated from the rate at which answers leave.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import UnavailableError

SMOOTHING = 0.1
LONGEST_RETRY_S = 30


class Admission:
    """A bounded number of slots. Used from one thread, the event loop's.

    Args:
        max_pending: slots.
    """

    def __init__(self, max_pending: int) -> None:
        self._max_pending = max_pending
        self._pending = 0
        self._seconds_between_answers = 0.0
        self._last_answer_s = 0.0

    @property
    def pending(self) -> int:
        """Slots in use."""
        return self._pending

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot while the block runs.

        Raises:
            UnavailableError: all are in use; with the time until they have drained.
        """
        if self._pending >= self._max_pending:
            raise self.overloaded(self._pending)
        if self._pending == 0:
            self._last_answer_s = time.monotonic()
        self._pending += 1
        try:
            yield
        finally:
            self.leave()

    def overloaded(self, pending: int) -> UnavailableError:
        """The error of a request that found so many before it."""
        drain_s = pending * self._seconds_between_answers
        return UnavailableError(
            f"{pending:,} requests are being received, waiting or computed",
            retry_after_s=min(LONGEST_RETRY_S, max(1, math.ceil(drain_s))),
        )

    def stay(self) -> None:
        """Take a slot for work that goes on after its request was answered; `leave` gives it back."""
        self._pending += 1

    def leave(self) -> None:
        """Give a slot back."""
        now_s = time.monotonic()
        self._pending -= 1
        self._seconds_between_answers += SMOOTHING * (now_s - self._last_answer_s - self._seconds_between_answers)
        self._last_answer_s = now_s
