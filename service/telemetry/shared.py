"""Aggregation over several workers: each writes its snapshot to a shared folder once a second.

A worker writes its own report before it reads the others, so that no counter ever decreases. When a worker ends, its
counts stay and its states are dropped. With one process, none of this is used. prometheus_client's multiprocess mode
supports only its own metrics; this store also has exact sums and recent durations.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
from prometheus_client.metrics_core import Metric

from service.telemetry.stats import Snapshot, merge_snapshots

FOLDER_VARIABLE: Final = "CIFAR10_WORKERS_FOLDER"
"""Environment variable that the supervisor sets for its workers."""
ENDED: Final = "ended"
MAX_OF_ALL: Final = ("_state", "_start_time_seconds", "_max_fds")
"""Suffixes of states that are not added up; the largest value of all workers counts."""


@dataclass(slots=True)
class WorkerReport:
    """A worker's counts, and its states as metric families."""

    snapshot: Snapshot
    states: list[Metric] = field(default_factory=list)
    queue_size: int = 0
    pending_requests: int = 0


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
        }
        partial = self._folder / f"{name}.{os.getpid()}.new"
        partial.write_bytes(orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS))
        partial.replace(self._file(name))

    def _read(self, file: Path) -> WorkerReport | None:
        with suppress(FileNotFoundError):  # the worker has just ended, or has not written yet
            content = orjson.loads(file.read_bytes())
            states = [_state_from_json(state) for state in content.pop("states")]
            return WorkerReport(Snapshot.from_json(content.pop("snapshot")), states, **content)
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
