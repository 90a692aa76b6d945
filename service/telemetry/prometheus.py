"""Prometheus' exposition as a view of the store: names, help texts, and states that are read for each scrape.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from cifar10_serving import __version__
from service.images.decoding import DecodeThreads
from service.inference.admission import Backlog
from service.inference.cache import PredictionCache
from service.inference.scheduler import Scheduler
from service.registry.repository import ModelRepository
from service.telemetry.stats import ENDS, NO_VERSION, Histogram, Snapshot, VersionKey, VersionStats

PREFIX: Final = "cifar10_"
LABELS: Final = ("model", "version")
END_TEXTS: Final = {
    "rejected": "Requests rejected with 503",
    "expired": "Requests that missed their deadline and got 504",
    "cancelled": "Requests whose client disconnected",
}
HISTOGRAMS: Final = {
    "request_seconds": "Time from a request's head to its answer",
    "decode_seconds": "Time from the complete request to its pixels",
    "queue_seconds": "Time in the queue, until the batch starts",
    "compute_seconds": "Time of one batch in the runtime",
    "batch_rows": "Images in a batch",
}


@dataclass(frozen=True)
class StateSources:
    """The parts of the service whose states are exposed."""

    repository: ModelRepository
    backlog: Backlog
    scheduler: Scheduler
    cache: PredictionCache | None
    decode_threads: DecodeThreads
    instance: str


def exposition(snapshot: Snapshot, states: Iterable[Metric]) -> bytes:
    """Return all metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    PlatformCollector(registry=registry)
    registry.register(_Families([*_counted(snapshot), *states]))
    return generate_latest(registry)


def current_states(sources: StateSources) -> Iterator[Metric]:
    """Yield the states of this process: versions, queues, pending requests, memory, descriptors."""
    yield _instance_info(sources.instance)
    mirror = sources.repository.mirror
    if mirror is not None:
        answered_s = mirror.last_success_s or 0.0
        yield GaugeMetricFamily(f"{PREFIX}store_answered_timestamp_seconds", "Last answer of the store", answered_s)
    queue_size = GaugeMetricFamily(f"{PREFIX}queue_rows", "Queued images", labels=LABELS)
    state = GaugeMetricFamily(f"{PREFIX}version_state", "1 for the current state", labels=(*LABELS, "state"))
    waiting = sources.scheduler.queue_rows_by_version()
    for model in sources.repository.status().models:
        for version in model.versions:
            labels = (model.name, str(version.version))
            state.add_metric((*labels, str(version.state)), 1)
            queue_size.add_metric(labels, waiting[model.name, version.version])
    yield queue_size
    yield state
    backlog, cache, threads = sources.backlog, sources.cache, sources.decode_threads
    gauges = {
        "pending_requests": ("Requests being received, queued or computed", backlog.pending),
        "backlog_requests": ("Requests in the backlog, waiting to be started", backlog.queued),
        "pending_bytes": ("Size of the request bodies in memory", backlog.admission.pending_bytes),
        "decode_waiting": ("Images that wait to be decoded", threads.waiting),
        "decode_bytes": ("Memory reserved for decoding", threads.used_bytes),
        "decode_threads_overdue": ("Decoder threads that have passed a deadline", threads.overdue),
    }
    for name, (text, value) in gauges.items():
        yield GaugeMetricFamily(f"{PREFIX}{name}", text, value)
    if cache is not None:
        yield CounterMetricFamily(f"{PREFIX}cache_hits", "Answers from the cache", cache.hits)
        yield CounterMetricFamily(f"{PREFIX}cache_misses", "Answers computed", cache.misses)
        yield GaugeMetricFamily(f"{PREFIX}cache_bytes", "Size of the cache", cache.size_bytes)
    yield from ProcessCollector(registry=None).collect()


def _instance_info(name: str) -> Metric:
    info = GaugeMetricFamily(f"{PREFIX}instance_info", "Name and release of this instance", labels=("name", "release"))
    info.add_metric((name, __version__), 1)
    return info


class _Families(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _counted(snapshot: Snapshot) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        f"{PREFIX}requests", "Requests for predictions by status; 0: no answer", labels=(*LABELS, "status")
    )
    histograms = {
        name: HistogramMetricFamily(f"{PREFIX}{name}", text, labels=LABELS) for name, text in HISTOGRAMS.items()
    }
    batches = CounterMetricFamily(
        f"{PREFIX}batches", "Batches by the reason for their release", labels=(*LABELS, "reason")
    )
    ends = {end: CounterMetricFamily(f"{PREFIX}{end}", END_TEXTS[end], labels=LABELS) for end in ENDS.values()}
    for key, version in snapshot.versions.items():
        labels = _labels(key)
        for status, count in version.statuses.items():
            requests.add_metric((*labels, str(status)), count)
        for name, histogram in _histograms(version):
            if histogram.count:
                histograms[name].add_metric(labels, _cumulative(histogram), histogram.total)
        for reason, count in version.releases.items():
            batches.add_metric((*labels, reason), count)
        for end, count in version.ends.items():
            ends[end].add_metric(labels, count)
    yield requests
    yield from histograms.values()
    yield batches
    yield from ends.values()


def _histograms(version: VersionStats) -> Iterator[tuple[str, Histogram]]:
    measured = (version.request_s, version.decode_s, version.queue_s, version.compute_s, version.batch_size)
    yield from zip(HISTOGRAMS, measured, strict=True)


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    """Return cumulative buckets, as Prometheus requires: each counts all values up to its bound."""
    bounds = (*map(floatToGoString, histogram.bounds), "+Inf")
    counts, total = [], 0
    for bound, count in zip(bounds, histogram.counts, strict=True):
        total += count
        counts.append((bound, float(total)))
    return counts


def _labels(key: VersionKey) -> tuple[str, str]:
    return (key[0], str(key[1])) if key != NO_VERSION else ("", "")
