"""Time limit and final error of a wait for readiness."""

import time
from dataclasses import replace
from typing import Final

from cifar10_serving.client._config import Timeouts
from cifar10_serving.client._errors import ClientError, NotReadyError
from cifar10_serving.schemas import Readiness

POLL_S: Final = 0.2


class ReadinessPatience:
    """The rest of a wait for readiness.

    Args:
        timeout_s: the total time.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._ends_s = time.monotonic() + timeout_s

    def timeouts(self, usual: Timeouts) -> Timeouts:
        """Return the time-outs of a request that is sent now."""
        left_s = max(POLL_S, self._ends_s - time.monotonic())
        return replace(usual, total_s=left_s if usual.total_s is None else min(usual.total_s, left_s))

    def not_ready(self, readiness: Readiness) -> float:
        """Return the time until the next request, in seconds.

        Raises:
            NotReadyError: the time is over.
        """
        return self._next(
            NotReadyError(
                f"the service is not ready after {self._timeout_s:g} s: {readiness.reason}", remedy="wait longer"
            )
        )

    def not_reached(self, error: ClientError) -> float:
        """Return the time until the next request, in seconds.

        Raises:
            ClientError: the error itself, if the time is over.
        """
        return self._next(error)

    def _next(self, error: ClientError) -> float:
        left_s = self._ends_s - time.monotonic()
        if left_s <= 0:
            raise error
        return min(POLL_S, left_s)
