"""How busy the service is, in a few numbers that a page or a person can watch (`GET /stats`); this process alone.

Kept from the observation of each request, so that asking costs nothing that grows. What monitoring needs is
`service.metrics`' part.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from catalog.responses import ServiceStatistics
from service.core.admission import Admission
from service.core.observation import Observation
from service.core.scheduler import Scheduler
from service.errors import UnavailableError

WINDOW_S: Final = 10
KEPT_ANSWERS: Final = 1000


class Statistics:
    """Counts requests for predictions.

    Args:
        admission: says how many requests are inside.
        scheduler: says how many images wait.
        clock: gives seconds.
    """

    def __init__(
        self, admission: Admission, scheduler: Scheduler, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._admission = admission
        self._scheduler = scheduler
        self._clock = clock
        self._start_s = clock()
        self._requests = 0
        self._rejected = 0
        self._answered_s: deque[float] = deque(maxlen=KEPT_ANSWERS)
        self._per_second = [0] * WINDOW_S
        self._second = int(self._start_s)

    def request_ended(self, observation: Observation) -> None:
        """Count a request for predictions."""
        if not observation.is_inference:
            return
        self._requests += 1
        self._turn_to(self._clock())
        self._per_second[self._second % WINDOW_S] += 1
        if observation.error == UnavailableError.kind:
            self._rejected += 1
        elif observation.error is None:
            self._answered_s.append(observation.total_s)

    def now(self) -> ServiceStatistics:
        """The numbers at this moment."""
        now_s = self._clock()
        self._turn_to(now_s)
        uptime_s = now_s - self._start_s
        window_s = min(max(1.0, uptime_s), WINDOW_S - 1 + now_s % 1)
        durations_s = sorted(self._answered_s)
        return ServiceStatistics(
            uptime_s=round(uptime_s, 1),
            requests_total=self._requests,
            requests_per_s=round(sum(self._per_second) / window_s, 2),
            queue_rows=self._scheduler.queue_rows,
            pending_requests=self._admission.pending,
            p50_ms=_percentile_ms(durations_s, 0.5),
            p99_ms=_percentile_ms(durations_s, 0.99),
            rejected_total=self._rejected,
        )

    def _turn_to(self, now_s: float) -> None:
        """Forget the seconds that have left the window."""
        second = int(now_s)
        for passed in range(max(self._second + 1, second - WINDOW_S + 1), second + 1):
            self._per_second[passed % WINDOW_S] = 0
        self._second = second


def _percentile_ms(sorted_s: list[float], share: float) -> float | None:
    """The shortest duration that this share took no longer than."""
    if not sorted_s:
        return None
    return round(sorted_s[max(0, math.ceil(share * len(sorted_s)) - 1)] * 1000, 3)
