"""How many requests may be in the service at once, and how many bytes of them: one more is turned away, not queued.

Counts requests from their head to their answer, and work that outlived its deadline until it returns. When to
come back is estimated from the rate at which answers leave. How many images may wait for a model is `scheduler`'s part.
"""

import time
from types import TracebackType
from typing import Final, Self

from service.core.retry import retry_after_s
from service.errors import UnavailableError

SMOOTHING: Final = 0.1


class Admission:
    """A bounded number of slots, and a bounded number of bytes in them. Used from one thread, the event loop's.

    Args:
        max_pending: slots.
        max_pending_bytes: of the bodies that are held in memory, together.
    """

    def __init__(self, max_pending: int, max_pending_bytes: int) -> None:
        self._max_pending = max_pending
        self._max_pending_bytes = max_pending_bytes
        self._pending = 0
        self._pending_bytes = 0
        self._seconds_between_answers = 0.0
        self._last_answer_s = 0.0

    @property
    def max_pending(self) -> int:
        """Slots, in use or not."""
        return self._max_pending

    @property
    def pending(self) -> int:
        """Slots in use."""
        return self._pending

    @property
    def pending_bytes(self) -> int:
        """Bytes held in them."""
        return self._pending_bytes

    def slot(self) -> "Slot":
        """A slot that is held while the `with` block runs.

        Raises:
            UnavailableError: on entering, where all are in use; with the time until they have drained.
        """
        return Slot(self)

    def enter(self) -> None:
        """Take a slot, if there is one; see `slot`."""
        if self._pending >= self._max_pending:
            raise self.overloaded(self._pending)
        if self._pending == 0:
            self._last_answer_s = time.monotonic()
        self._pending += 1

    def overloaded(self, pending: int) -> UnavailableError:
        """The error of a request that found so many before it."""
        return UnavailableError(
            f"{pending:,} requests are being received, queued or computed",
            retry_after_s=retry_after_s(pending, self._seconds_between_answers),
        )

    def hold_bytes(self, size_bytes: int) -> None:
        """Count what a request holds; `release_bytes` takes it back.

        Raises:
            UnavailableError: all requests together would hold too much.
        """
        if self._pending_bytes and self._pending_bytes + size_bytes > self._max_pending_bytes:
            raise UnavailableError(
                f"the {self._pending:,} requests before this one hold {self._pending_bytes:,} bytes",
                retry_after_s=retry_after_s(self._pending, self._seconds_between_answers),
            )
        self._pending_bytes += size_bytes

    def release_bytes(self, size_bytes: int) -> None:
        """Count what a request no longer holds."""
        self._pending_bytes -= size_bytes

    def stay(self) -> None:
        """Take a slot for work that goes on after its request was answered; `leave` gives it back."""
        self._pending += 1

    def leave(self) -> None:
        """Give a slot back."""
        now_s = time.monotonic()
        self._pending -= 1
        self._seconds_between_answers += SMOOTHING * (now_s - self._last_answer_s - self._seconds_between_answers)
        self._last_answer_s = now_s


class Slot:
    """A place for one request, and for the bytes of its body."""

    __slots__ = ("_admission", "_held_bytes")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held_bytes = 0

    def __enter__(self) -> Self:
        """Take the place."""
        self.enter()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Give it back, with its bytes."""
        self.leave()

    def enter(self) -> None:
        """Take the place, where it is given back elsewhere than at the end of a `with` block.

        Raises:
            UnavailableError: there is none.
        """
        self._admission.enter()

    def leave(self) -> None:
        """Give it back, with its bytes; once for each `enter`."""
        self._admission.release_bytes(self._held_bytes)
        self._admission.leave()

    def hold_bytes(self, size_bytes: int) -> None:
        """Count bytes that the request now holds; see `Admission.hold_bytes`."""
        self._admission.hold_bytes(size_bytes)
        self._held_bytes += size_bytes
