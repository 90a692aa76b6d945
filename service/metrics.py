"""Prometheus metrics: what they are called, and where their values come from.

Durations and counts come from the observation of each request and of each batch; states are read when somebody asks.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.api.client_watch import CLIENT_GONE
from service.core.backlog import Backlog, Version
from service.core.decode_threads import DecodeThreads
from service.core.observation import Observation
from service.core.prediction_cache import PredictionCache
from service.core.repository import ModelRepository
from service.core.scheduler import Scheduler
from service.errors import DeadlineError, UnavailableError
from service.shared_metrics import SHARE_EVERY_S, exposition_of_all, is_shared, write_states

PREFIX: Final = "cifar10_"
LABELS: Final = ("model", "version")
NO_VERSION: Final = ("", "")
REQUEST_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
STEP_BUCKETS_S: Final = (0.0001, 0.00025, *REQUEST_BUCKETS_S[:-2])
ROW_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Observed:
    """Whose state is read when somebody asks for the metrics."""

    repository: ModelRepository
    backlog: Backlog
    scheduler: Scheduler
    cache: PredictionCache | None
    decode_threads: DecodeThreads


class _Child(Protocol):
    def observe(self, amount: float) -> None: ...


class _OfVersion:
    """The metrics of one version, looked up once: a lookup costs as much as the observation."""

    def __init__(self, metrics: "Metrics", labels: tuple[str, str]) -> None:
        self._metrics = metrics
        self._labels = labels
        self.total_s: _Child = metrics.total_s.labels(*labels)
        self.statuses: dict[int, Counter] = {}

    @cached_property
    def decode_s(self) -> _Child:
        return self._metrics.decode_s.labels(*self._labels)

    @cached_property
    def queue_s(self) -> _Child:
        return self._metrics.queue_s.labels(*self._labels)

    @cached_property
    def compute_s(self) -> _Child:
        return self._metrics.compute_s.labels(*self._labels)

    @cached_property
    def batch_rows(self) -> _Child:
        return self._metrics.batch_rows.labels(*self._labels)

    def status(self, status: int) -> Counter:
        if status not in self.statuses:
            self.statuses[status] = self._metrics.requests.labels(*self._labels, str(status))
        return self.statuses[status]


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            f"{PREFIX}requests",
            "Requests for predictions by status; 0: no answer",
            (*LABELS, "status"),
            registry=registry,
        )
        self.total_s = Histogram(
            f"{PREFIX}request_seconds", "From a request's head to its answer", LABELS,
            buckets=REQUEST_BUCKETS_S, registry=registry,
        )  # fmt: skip
        steps = {
            "decode": "From a whole request to its pixels",
            "queue": "From pixels to the start of their batch",
            "compute": "Of one batch in the runtime",
        }
        self.decode_s, self.queue_s, self.compute_s = (
            Histogram(f"{PREFIX}{step}_seconds", text, LABELS, buckets=STEP_BUCKETS_S, registry=registry)
            for step, text in steps.items()
        )
        self.batch_rows = Histogram(
            f"{PREFIX}batch_rows", "Images computed at once", LABELS, buckets=ROW_BUCKETS, registry=registry
        )
        ends = {
            UnavailableError.kind: ("rejected", "Requests that got 503"),
            DeadlineError.kind: ("expired", "Requests whose time was over, 504"),
            CLIENT_GONE: ("cancelled", "Requests whose client went away"),
        }
        self._ends = {
            kind: Counter(f"{PREFIX}{name}", text, LABELS, registry=registry) for kind, (name, text) in ends.items()
        }
        self._versions: dict[tuple[str, str], _OfVersion] = {}
        self._states: list[Collector] = [ProcessCollector(registry=None)]
        PlatformCollector(registry=registry)

    def watch(self, observed: Observed) -> None:
        """Read these states, too, whenever somebody asks."""
        self._states.append(_States(observed))

    async def share_states(self) -> None:
        """Where there are several processes, have each know the others' states; until cancelled."""
        while is_shared():
            write_states(self._collect_states())
            await asyncio.sleep(SHARE_EVERY_S)

    def request_ended(self, observation: Observation) -> None:
        """Count a request for predictions."""
        if not observation.is_inference:
            return
        labels = NO_VERSION if observation.model is None else (observation.model, str(observation.version))
        of_version = self._of_version(labels)
        of_version.status(observation.status).inc()
        if observation.error in self._ends:
            self._ends[observation.error].labels(*labels).inc()
        of_version.total_s.observe(observation.total_s)
        if observation.decode_s is not None:
            of_version.decode_s.observe(observation.decode_s)
        if observation.computed is not None:
            of_version.queue_s.observe(observation.computed.queue_s)

    def requests_refused(self, version: Version | None, requests: int) -> None:
        """Count requests for predictions that were refused unparsed; they have no durations."""
        labels = NO_VERSION if version is None else (version[0], str(version[1]))
        self._of_version(labels).status(HTTPStatus.SERVICE_UNAVAILABLE).inc(requests)
        self._ends[UnavailableError.kind].labels(*labels).inc(requests)

    def batch_computed(self, model: str, version: int, rows: int, compute_s: float) -> None:
        """Count a batch."""
        of_version = self._of_version((model, str(version)))
        of_version.compute_s.observe(compute_s)
        of_version.batch_rows.observe(rows)

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format; of all processes, where there are several."""
        if is_shared():
            write_states(self._collect_states())
            return exposition_of_all()
        states = CollectorRegistry()
        for state in self._states:
            states.register(state)
        return generate_latest(self._registry) + generate_latest(states)

    def _collect_states(self) -> Iterator[Metric]:
        for state in self._states:
            yield from state.collect()

    def _of_version(self, labels: tuple[str, str]) -> _OfVersion:
        if labels not in self._versions:
            self._versions[labels] = _OfVersion(self, labels)
        return self._versions[labels]


class _States(Collector):
    def __init__(self, observed: Observed) -> None:
        self._observed = observed

    def collect(self) -> Iterator[Metric]:
        observed = self._observed
        queue_rows = GaugeMetricFamily(f"{PREFIX}queue_rows", "Images that wait", labels=LABELS)
        state = GaugeMetricFamily(f"{PREFIX}version_state", "1 for the state it is in", labels=(*LABELS, "state"))
        waiting = observed.scheduler.queue_rows_by_version()
        for model in observed.repository.status().models:
            for version in model.versions:
                labels = (model.name, str(version.version))
                state.add_metric((*labels, str(version.state)), 1)
                queue_rows.add_metric(labels, waiting[model.name, version.version])
        yield queue_rows
        yield state
        yield GaugeMetricFamily(
            f"{PREFIX}pending_requests", "Requests received, waiting or computed", observed.backlog.pending
        )
        yield GaugeMetricFamily(f"{PREFIX}backlog_requests", "Those that wait to be begun", observed.backlog.waiting)
        yield GaugeMetricFamily(
            f"{PREFIX}pending_bytes", "Bodies of requests held in memory", observed.backlog.admission.pending_bytes
        )
        threads = observed.decode_threads
        yield GaugeMetricFamily(f"{PREFIX}decode_waiting", "Images that wait to be decoded", threads.waiting)
        yield GaugeMetricFamily(f"{PREFIX}decode_bytes", "Memory set aside for decoding", threads.used_bytes)
        yield GaugeMetricFamily(
            f"{PREFIX}decode_threads_overdue", "Threads held by an image beyond its deadline", threads.overdue
        )
        if observed.cache is not None:
            yield CounterMetricFamily(f"{PREFIX}cache_hits", "Answers from the cache", observed.cache.hits)
            yield CounterMetricFamily(f"{PREFIX}cache_misses", "Answers computed", observed.cache.misses)
            yield GaugeMetricFamily(f"{PREFIX}cache_bytes", "Size of the cache", observed.cache.size_bytes)
