"""Metrics of several processes added up, through files in a folder that they share.

What is counted goes through `prometheus_client`'s multiprocess mode, whose rules these are:
https://prometheus.github.io/client_python/multiprocess/. States, such as how many requests are inside, and what
`service.statistics` tells, each process writes down every second. Where there is one process, none of this is in use.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own; it is read when that package is imported."""
SHARE_EVERY_S: Final = 1.0
STATES: Final = "states"
STATISTICS: Final = "statistics"
OF_ONE: Final = ("_state", "_start_time_seconds", "_max_fds")
"""Metrics whose names end so are not added up: of all processes' values the greatest counts."""


def is_shared() -> bool:
    """Whether this is one of several processes."""
    return FOLDER_VARIABLE in os.environ


def write_states(families: Iterable[Metric]) -> None:
    """Have the other processes know this one's states."""
    states = [
        [family.name, family.documentation, family.type, [[s.name, s.labels, s.value] for s in family.samples]]
        for family in families
    ]
    _write(STATES, states)


def write_statistics(statistics: dict[str, Any]) -> None:
    """Have the other processes know this one's statistics."""
    _write(STATISTICS, statistics)


def statistics_of_others() -> list[dict[str, Any]]:
    """What the other processes have written last."""
    return [statistics for pid, statistics in _read_all(STATISTICS) if pid != os.getpid()]


def exposition_of_all() -> bytes:
    """What all processes have counted, and their states together, in Prometheus' text format."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the package leaves it so
    registry.register(_StatesOfAll())
    return generate_latest(registry)


def forget_process(pid: int) -> None:
    """Leave out the states and statistics of a process that has ended; what it counted of the metrics stays."""
    for kind in (STATES, STATISTICS):
        _file(kind, pid).unlink(missing_ok=True)


class _StatesOfAll(Collector):
    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
        for _, states in _read_all(STATES):
            for name, documentation, kind, samples in states:
                families.setdefault(name, Metric(name, documentation, kind))
                known = values.setdefault(name, {})
                for sample_name, labels, value in samples:
                    key = sample_name, tuple(labels.items())
                    before = known.get(key, 0.0)
                    known[key] = max(before, value) if name.endswith(OF_ONE) else before + value
        for name, family in families.items():
            for (sample_name, labels), value in values[name].items():
                family.add_sample(sample_name, dict(labels), value)
            yield family


def _folder() -> Path:
    return Path(os.environ[FOLDER_VARIABLE])


def _file(kind: str, pid: int) -> Path:
    return _folder() / f"{kind}-{pid}.json"


def _write(kind: str, content: Any) -> None:
    file = _file(kind, os.getpid())
    half_written = file.with_suffix(".new")
    half_written.write_text(json.dumps(content))
    half_written.replace(file)


def _read_all(kind: str) -> Iterator[tuple[int, Any]]:
    for file in sorted(_folder().glob(f"{kind}-*.json")):
        with suppress(FileNotFoundError):  # its process has just ended
            yield int(file.stem.removeprefix(f"{kind}-")), json.loads(file.read_text())
