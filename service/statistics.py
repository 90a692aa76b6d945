"""How busy the service is, in a few numbers that a page or a person can watch (`GET /stats`).

Kept from the observation of each request, so that asking costs nothing that grows. Where there are several processes,
each tells the others its numbers every second. What monitoring needs is `service.metrics`' part.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from catalog.responses import ServiceStatistics
from service.core.backlog import Backlog
from service.core.observation import Observation
from service.core.scheduler import Scheduler
from service.errors import UnavailableError
from service.shared_metrics import SHARE_EVERY_S, is_shared, statistics_of_others, write_statistics

WINDOW_S: Final = 10
KEPT_ANSWERS: Final = 1000


@dataclass(frozen=True, slots=True)
class ProcessStatistics:
    """What one process tells; `answered_s` are the durations of its last answers, in seconds."""

    uptime_s: float
    requests_total: int
    requests_per_s: float
    queue_rows: int
    pending_requests: int
    rejected_total: int
    answered_s: list[float]


class Statistics:
    """Counts requests for predictions.

    Args:
        backlog: says how many requests are inside.
        scheduler: says how many images wait.
        clock: gives seconds.
    """

    def __init__(self, backlog: Backlog, scheduler: Scheduler, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._backlog = backlog
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

    def requests_refused(self, requests: int) -> None:
        """Count requests for predictions that were refused unparsed."""
        self._requests += requests
        self._rejected += requests
        self._turn_to(self._clock())
        self._per_second[self._second % WINDOW_S] += requests

    def now(self) -> ServiceStatistics:
        """The numbers at this moment; of all processes, where there are several."""
        others = [ProcessStatistics(**other) for other in statistics_of_others()] if is_shared() else []
        return together([self._of_this_process(), *others])

    async def share(self) -> None:
        """Where there are several processes, have each know the others' numbers; until cancelled."""
        while is_shared():
            write_statistics(asdict(self._of_this_process()))
            await asyncio.sleep(SHARE_EVERY_S)

    def _of_this_process(self) -> ProcessStatistics:
        now_s = self._clock()
        self._turn_to(now_s)
        uptime_s = now_s - self._start_s
        window_s = min(max(1.0, uptime_s), WINDOW_S - 1 + now_s % 1)
        return ProcessStatistics(
            uptime_s=uptime_s,
            requests_total=self._requests,
            requests_per_s=sum(self._per_second) / window_s,
            queue_rows=self._scheduler.queue_rows,
            pending_requests=self._backlog.pending,
            rejected_total=self._rejected,
            answered_s=[round(duration_s, 6) for duration_s in self._answered_s],
        )

    def _turn_to(self, now_s: float) -> None:
        """Forget the seconds that have left the window."""
        second = int(now_s)
        for passed in range(max(self._second + 1, second - WINDOW_S + 1), second + 1):
            self._per_second[passed % WINDOW_S] = 0
        self._second = second


def together(processes: Sequence[ProcessStatistics]) -> ServiceStatistics:
    """The numbers of at least one process as those of one service."""
    durations_s = sorted(duration_s for process in processes for duration_s in process.answered_s)
    return ServiceStatistics(
        uptime_s=round(max(process.uptime_s for process in processes), 1),
        requests_total=sum(process.requests_total for process in processes),
        requests_per_s=round(sum(process.requests_per_s for process in processes), 2),
        queue_rows=sum(process.queue_rows for process in processes),
        pending_requests=sum(process.pending_requests for process in processes),
        p50_ms=_percentile_ms(durations_s, 0.5),
        p99_ms=_percentile_ms(durations_s, 0.99),
        rejected_total=sum(process.rejected_total for process in processes),
    )


def _percentile_ms(sorted_s: list[float], share: float) -> float | None:
    """The shortest duration that this share took no longer than."""
    if not sorted_s:
        return None
    return round(sorted_s[max(0, math.ceil(share * len(sorted_s)) - 1)] * 1000, 3)
