"""Telemetry of this process and of all workers: each writes its counts and states to a shared folder once a second.

A worker writes its own report before it reads the others, so that no counter ever decreases. When a worker ends, its
counts stay and its states are dropped. With one process, nothing is shared. prometheus_client's multiprocess mode
supports only its own metrics; this store also has exact sums and recent durations.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
from prometheus_client.metrics_core import Metric

from cifar10_serving import __version__
from cifar10_serving.schemas import InstanceModel, InstanceStatus, ServiceStatistics, StoreStatus
from service.inference.admission import Backlog
from service.inference.scheduler import Scheduler
from service.telemetry.prometheus import exposition
from service.telemetry.stats import Snapshot, Stats, merge_snapshots

FOLDER_VARIABLE: Final = "CIFAR10_WORKERS_FOLDER"
"""Environment variable that the supervisor sets for its workers."""
ENDED: Final = "ended"
MAX_OF_ALL: Final = ("_state", "_info", "_timestamp_seconds", "_start_time_seconds", "_max_fds")
"""Suffixes of states that are not added up; the largest value of all workers counts."""
TICK_S: Final = 1.0
ABSENT: Final = InstanceModel(ready=[], loading=[], failed=[], rollout=None)

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class WorkerReport:
    """A worker's counts, and its states as metric families."""

    snapshot: Snapshot
    states: list[Metric] = field(default_factory=list)
    queue_size: int = 0
    pending_requests: int = 0
    models: dict[str, InstanceModel] = field(default_factory=dict)


class SharedReports:
    """The folder that the workers of one service share.

    Args:
        folder: created by the supervisor, and private to the service.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, report: WorkerReport) -> None:
        """Write this worker's report for the others."""
        self._write(str(os.getpid()), report)

    def others(self) -> Iterator[WorkerReport]:
        """Yield the last report of every other worker, including those that have ended."""
        mine = str(os.getpid())
        for file in sorted(self._folder.glob("*.json")):
            if file.stem != mine and (report := self._read(file)) is not None:
                yield report

    def mark_process_dead(self, pid: int) -> None:
        """Keep the counts of an ended worker and drop its states; only the supervisor calls this."""
        file = self._file(str(pid))
        last = self._read(file)
        if last is not None:
            reports = [report for report in (self._read(self._file(ENDED)), last) if report is not None]
            ended = merge_snapshots(report.snapshot for report in reports)
            ended.uptime_s, ended.requests_per_s, ended.answered_s = 0.0, 0.0, []
            self._write(ENDED, WorkerReport(ended))
        file.unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _write(self, name: str, report: WorkerReport) -> None:
        content = {
            "snapshot": report.snapshot.to_json(),
            "states": [_state_to_json(state) for state in report.states],
            "queue_size": report.queue_size,
            "pending_requests": report.pending_requests,
            "models": {name: model.model_dump() for name, model in report.models.items()},
        }
        partial = self._folder / f"{name}.{os.getpid()}.new"
        partial.write_bytes(orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS))
        partial.replace(self._file(name))

    def _read(self, file: Path) -> WorkerReport | None:
        with suppress(FileNotFoundError):  # the worker has just ended, or has not written yet
            content = orjson.loads(file.read_bytes())
            states = [_state_from_json(state) for state in content.pop("states")]
            models = {name: InstanceModel(**model) for name, model in content.pop("models").items()}
            return WorkerReport(Snapshot.from_json(content.pop("snapshot")), states, models=models, **content)
        return None


def shared_reports() -> SharedReports | None:
    """Return the folder that the workers share; None with a single process."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return SharedReports(Path(folder)) if folder else None


def merge_states(states: list[Metric]) -> Iterator[Metric]:
    """Yield each metric family once, with values of the same labels added up, or their maximum."""
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for state in states:
        families.setdefault(state.name, Metric(state.name, state.documentation, state.type))
        known = values.setdefault(state.name, {})
        for sample in state.samples:
            key = sample.name, tuple(sample.labels.items())
            before = known.get(key, 0.0)
            known[key] = max(before, sample.value) if state.name.endswith(MAX_OF_ALL) else before + sample.value
    for name, family in families.items():
        for (sample_name, labels), value in values[name].items():
            family.add_sample(sample_name, dict(labels), value)
        yield family


def _state_to_json(state: Metric) -> list[Any]:
    samples = [[sample.name, sample.labels, sample.value] for sample in state.samples]
    return [state.name, state.documentation, state.type, samples]


def _state_from_json(content: list[Any]) -> Metric:
    name, documentation, kind, samples = content
    state = Metric(name, documentation, kind)
    for sample_name, labels, value in samples:
        state.add_sample(sample_name, labels, value)
    return state


class Telemetry:
    """The store and its views over all workers.

    Args:
        stats: counts requests and batches of this process.
        backlog: has the number of pending requests, and counts rejections.
        scheduler: has the number of queued images.
        states: yields this process's states as metric families.
        instance: the name of this instance.
        models: returns what this process has of each model.
        shared: the folder that the workers share; None with a single process.
    """

    def __init__(
        self,
        stats: Stats,
        backlog: Backlog,
        scheduler: Scheduler,
        states: Callable[[], Iterable[Metric]],
        shared: SharedReports | None = None,
        *,
        instance: str = "",
        models: Callable[[], dict[str, InstanceModel]] = dict,
    ) -> None:
        self.stats = stats
        self._instance = instance
        self._models = models
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
            instance=self._instance,
        )

    def instance_status(self, *, ready: bool, store: StoreStatus | None) -> InstanceStatus:
        """Return the answer of `/instance`: what all workers have."""
        mine, *others = self._reports(with_states=False)
        live = [mine.models, *(report.models for report in others if report.snapshot.uptime_s > 0)]
        return InstanceStatus(
            instance=self._instance,
            release=__version__,
            ready=ready,
            workers=len(live),
            models=merge_models(live),
            store=store,
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
        return WorkerReport(
            self.stats.snapshot(), states, self._scheduler.queue_rows, self._backlog.pending, self._models()
        )

    def _share(self, report: WorkerReport) -> None:
        if self._shared is not None:
            self._shared.write(report)

    def _count_rejections(self) -> None:
        """Count requests that were rejected unparsed, in bulk: counting each would cost more than rejecting it."""
        for version, requests in self._backlog.take_rejected().items():
            self.stats.requests_rejected(version, requests)
            whose = "" if version is None else f" for {version[0]} version {version[1]}"
            logger.warning("rejected %d requests%s: overloaded", requests, whose)


def merge_models(workers: Sequence[Mapping[str, InstanceModel]]) -> dict[str, InstanceModel]:
    """Return what all workers have: versions that are ready in each, and the rollout that all have in force."""
    merged: dict[str, InstanceModel] = {}
    for name in dict.fromkeys(name for models in workers for name in models):
        found = [models.get(name, ABSENT) for models in workers]
        ready, rollouts = (
            set[int].intersection(*(set(model.ready) for model in found)),
            {each.rollout for each in found},
        )
        known = {version for model in found for version in (*model.ready, *model.loading)}
        merged[name] = InstanceModel(
            ready=sorted(ready),
            loading=sorted(known - ready),
            failed=sorted({version for model in found for version in model.failed}),
            rollout=rollouts.pop() if len(rollouts) == 1 else None,
            next_rollout=next((model.next_rollout for model in found if model.next_rollout is not None), None),
            problem=next((model.problem for model in found if model.problem is not None), None),
        )
    return merged


def _merge(reports: list[WorkerReport]) -> Snapshot:
    return reports[0].snapshot if len(reports) == 1 else merge_snapshots(report.snapshot for report in reports)
