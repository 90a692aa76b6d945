"""Telemetry of this process: the store, its views over all workers, and the task that shares it."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client.metrics_core import Metric

from cifar10_serving.schemas import ServiceStatistics
from service.inference.admission import Backlog
from service.inference.scheduler import Scheduler
from service.telemetry.prometheus import exposition
from service.telemetry.shared import SharedReports, WorkerReport, merge_states, shared_reports
from service.telemetry.stats import Snapshot, Stats, merge_snapshots

TICK_S: Final = 1.0

logger = logging.getLogger(__name__)


class Telemetry:
    """The store and its views over all workers.

    Args:
        stats: counts requests and batches of this process.
        backlog: has the number of pending requests, and counts rejections.
        scheduler: has the number of queued images.
        states: yields this process's states as metric families.
        shared: the folder that the workers share; None with a single process.
    """

    def __init__(
        self,
        stats: Stats,
        backlog: Backlog,
        scheduler: Scheduler,
        states: Callable[[], Iterable[Metric]],
        shared: SharedReports | None = None,
    ) -> None:
        self.stats = stats
        self._backlog = backlog
        self._scheduler = scheduler
        self._states = states
        self._shared = shared or shared_reports()

    async def run(self) -> None:
        """Count rejections and write this worker's report, once a second until cancelled."""
        while True:
            if self._shared is not None:
                self._share(self._report())
            await asyncio.sleep(TICK_S)
            self._count_rejections()

    def snapshot(self) -> Snapshot:
        """Return the counts of all workers."""
        return _merge(self._reports(with_states=False))

    def prometheus(self) -> bytes:
        """Return all workers' metrics in Prometheus' text format."""
        reports = self._reports()
        states = [state for report in reports for state in report.states]
        return exposition(_merge(reports), states if len(reports) == 1 else merge_states(states))

    def service_statistics(self) -> ServiceStatistics:
        """Return the answer of `/stats`, for all workers."""
        reports = self._reports(with_states=False)
        return _merge(reports).service_statistics(
            queue_size=sum(report.queue_size for report in reports),
            pending_requests=sum(report.pending_requests for report in reports),
        )

    def _reports(self, *, with_states: bool = True) -> list[WorkerReport]:
        self._count_rejections()
        mine = self._report(with_states=with_states or self._shared is not None)
        if self._shared is None:
            return [mine]
        self._share(mine)
        return [mine, *self._shared.others()]

    def _report(self, *, with_states: bool = True) -> WorkerReport:
        states = list(self._states()) if with_states else []
        return WorkerReport(self.stats.snapshot(), states, self._scheduler.queue_rows, self._backlog.pending)

    def _share(self, report: WorkerReport) -> None:
        if self._shared is not None:
            self._shared.write(report)

    def _count_rejections(self) -> None:
        """Count requests that were rejected unparsed, in bulk: counting each would cost more than rejecting it."""
        for version, requests in self._backlog.take_rejected().items():
            self.stats.requests_rejected(version, requests)
            whose = "" if version is None else f" for {version[0]} version {version[1]}"
            logger.warning("rejected %d requests%s: overloaded", requests, whose)


def _merge(reports: list[WorkerReport]) -> Snapshot:
    return reports[0].snapshot if len(reports) == 1 else merge_snapshots(report.snapshot for report in reports)
