"""How many requests may be in the service at once: one more is turned away within microseconds, not queued.

Counts requests from acceptance to answer, work that outlived its deadline included. When to come back is
estimated from the rate at which answers leave.
"""

import math
import time

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

    def check(self) -> None:
        """Whether there is a free slot.

        Raises:
            UnavailableError: all are in use; with the time until they have drained.
        """
        if self._pending >= self._max_pending:
            drain_s = self._pending * self._seconds_between_answers
            raise UnavailableError(
                f"{self._pending} requests are waiting for their answer",
                retry_after_s=min(LONGEST_RETRY_S, max(1, math.ceil(drain_s))),
            )

    def enter(self) -> None:
        """Take a slot; `leave` gives it back.

        Raises:
            UnavailableError: as `check`.
        """
        self.check()
        if self._pending == 0:
            self._last_answer_s = time.monotonic()
        self._pending += 1

    def leave(self) -> None:
        """Give a slot back."""
        now_s = time.monotonic()
        self._pending -= 1
        self._seconds_between_answers += SMOOTHING * (now_s - self._last_answer_s - self._seconds_between_answers)
        self._last_answer_s = now_s
