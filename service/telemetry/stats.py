"""The store of all counters of this process: by version, and for the whole service.

Prometheus' exposition (`prometheus`), `/stats` and Triton's statistics extension are views of it; `reports` aggregates
several workers. Every number is a plain sum, so snapshots merge by addition.
"""

import math
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Self

from cifar10_serving.schemas import ServiceStatistics
from service.errors import CLIENT_GONE, DeadlineError, UnavailableError
from service.telemetry.trace import Trace

REQUEST_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
STEP_BUCKETS_S: Final = (0.0001, 0.00025, *REQUEST_BUCKETS_S[:-2])
BATCH_SIZE_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
WINDOW_S: Final = 10
KEPT_ANSWERS: Final = 1000
ENDS: Final = {UnavailableError.kind: "rejected", DeadlineError.kind: "expired", CLIENT_GONE: "cancelled"}
"""A problem's kind -> the counter of requests that ended with it."""

VersionKey = tuple[str, int]
NO_VERSION: Final[VersionKey] = ("", 0)
"""The key of requests that reached no version: unknown models, and load shedding."""


@dataclass(slots=True)
class Duration:
    """A number of events and their summed duration in seconds."""

    count: int = 0
    total_s: float = 0.0

    def add(self, duration_s: float) -> None:
        """Count an event."""
        self.count += 1
        self.total_s += duration_s

    def merge(self, other: Self) -> None:
        """Add another's events."""
        self.count += other.count
        self.total_s += other.total_s


@dataclass(slots=True)
class Histogram:
    """Counts by bucket; `counts` has one entry more than `bounds`, for values above the last."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    @property
    def count(self) -> int:
        """Number of observed values."""
        return sum(self.counts)

    def observe(self, value: float) -> None:
        """Count a value; it belongs to the bucket whose bound it equals, like Prometheus' `le`."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def merge(self, other: Self) -> None:
        """Add another's values."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


def _request_histogram() -> Histogram:
    return Histogram(REQUEST_BUCKETS_S)


def _step_histogram() -> Histogram:
    return Histogram(STEP_BUCKETS_S)


def _batch_histogram() -> Histogram:
    return Histogram(BATCH_SIZE_BUCKETS)


@dataclass(slots=True)
class VersionStats:
    """Counts of one version.

    `statuses` and `ends` count requests. `request_s` is the time from a request's head to its answer, `decode_s` from
    the complete request to its pixels, `queue_s` from the pixels to the start of their batch; `compute_s` and
    `batch_size` are per batch. `success`, `fail` and `request_compute` are per request, `batches` by batch size,
    `releases` by the reason for a batch's release.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    request_s: Histogram = field(default_factory=_request_histogram)
    decode_s: Histogram = field(default_factory=_step_histogram)
    queue_s: Histogram = field(default_factory=_step_histogram)
    compute_s: Histogram = field(default_factory=_step_histogram)
    batch_size: Histogram = field(default_factory=_batch_histogram)
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    request_compute: Duration = field(default_factory=Duration)
    batches: dict[int, Duration] = field(default_factory=dict)
    releases: Counter[str] = field(default_factory=Counter)
    cached: int = 0
    last_inference_s: float = 0.0
    """Time of the last request in seconds since the epoch; 0: none."""

    @property
    def rows(self) -> int:
        """Number of computed images."""
        return sum(size * batch.count for size, batch in self.batches.items())

    @property
    def executions(self) -> int:
        """Number of computed batches."""
        return sum(batch.count for batch in self.batches.values())

    def merge(self, other: Self) -> None:
        """Add another process's counts of this version."""
        self.statuses.update(other.statuses)
        self.ends.update(other.ends)
        for mine, theirs in (
            (self.request_s, other.request_s),
            (self.decode_s, other.decode_s),
            (self.queue_s, other.queue_s),
            (self.compute_s, other.compute_s),
            (self.batch_size, other.batch_size),
        ):
            mine.merge(theirs)
        self.success.merge(other.success)
        self.fail.merge(other.fail)
        self.request_compute.merge(other.request_compute)
        for size, batch in other.batches.items():
            self.batches.setdefault(size, Duration()).merge(batch)
        self.releases.update(other.releases)
        self.cached += other.cached
        self.last_inference_s = max(self.last_inference_s, other.last_inference_s)


@dataclass(slots=True)
class Snapshot:
    """The counts of one process, or of several merged ones; per-process values are 0 after a process has ended."""

    versions: dict[VersionKey, VersionStats] = field(default_factory=dict)
    requests: int = 0
    rejected: int = 0
    uptime_s: float = 0.0
    requests_per_s: float = 0.0
    answered_s: list[float] = field(default_factory=list)
    """Durations of the latest answers, in seconds."""

    def merge(self, other: Self) -> None:
        """Add another process's counts."""
        for key, version in other.versions.items():
            self.versions.setdefault(key, VersionStats()).merge(version)
        self.requests += other.requests
        self.rejected += other.rejected
        self.uptime_s = max(self.uptime_s, other.uptime_s)
        self.requests_per_s += other.requests_per_s
        self.answered_s = [*self.answered_s, *other.answered_s]

    def service_statistics(self, *, queue_size: int, pending_requests: int, instance: str = "") -> ServiceStatistics:
        """Return the answer of `/stats`."""
        durations_s = sorted(self.answered_s)
        return ServiceStatistics(
            uptime_s=round(self.uptime_s, 1),
            requests_total=self.requests,
            requests_per_s=round(self.requests_per_s, 2),
            queue_rows=queue_size,
            pending_requests=pending_requests,
            p50_ms=_percentile_ms(durations_s, 0.5),
            p99_ms=_percentile_ms(durations_s, 0.99),
            rejected_total=self.rejected,
            instance=instance,
        )

    def to_json(self) -> dict[str, Any]:
        """Return a form that orjson can write and `from_json` can read."""
        versions = [[*key, version] for key, version in self.versions.items()]
        return {
            "versions": versions,
            "requests": self.requests,
            "rejected": self.rejected,
            "uptime_s": self.uptime_s,
            "requests_per_s": self.requests_per_s,
            "answered_s": self.answered_s,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Return the snapshot from the form that `to_json` returned."""
        versions = {(name, number): _version_from_json(value) for name, number, value in content["versions"]}
        return cls(**(content | {"versions": versions}))


class Stats:
    """Counts requests and batches; used only from the event loop's thread.

    Args:
        clock: returns seconds, for rates.
        wall_clock: returns seconds since the epoch.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._start_s = clock()
        self._versions: dict[VersionKey, VersionStats] = {}
        self._requests = 0
        self._rejected = 0
        self._answered_s: deque[float] = deque(maxlen=KEPT_ANSWERS)
        self._per_second = [0] * WINDOW_S
        self._second = int(self._start_s)

    def version(self, key: VersionKey) -> VersionStats:
        """Return a version's counts; zeros if it had no requests."""
        return self._versions.get(key) or VersionStats()

    def request_finished(self, trace: Trace) -> None:
        """Count a prediction request; other requests are not counted."""
        if not trace.is_inference:
            return
        total_s = trace.total_s
        key = NO_VERSION if trace.model is None else (trace.model, trace.version or 0)
        version = self._versions.get(key) or self._add(key)
        version.statuses[trace.status] += 1
        version.request_s.observe(total_s)
        version.last_inference_s = self._wall_clock()
        if trace.decode_s is not None:
            version.decode_s.observe(trace.decode_s)
        if trace.computed is not None:
            version.queue_s.observe(trace.computed.queue_s)
            version.request_compute.add(trace.computed.compute_s)
        if trace.from_cache:
            version.cached += 1
        if trace.error is None:
            version.success.add(total_s)
            self._answered_s.append(total_s)
        else:
            version.fail.add(total_s)
            if (end := ENDS.get(trace.error)) is not None:
                version.ends[end] += 1
        self._count(1, rejected=trace.error == UnavailableError.kind)

    def requests_rejected(self, key: VersionKey | None, requests: int) -> None:
        """Count prediction requests that were rejected unparsed; they have no durations."""
        version = self._versions.get(key or NO_VERSION) or self._add(key or NO_VERSION)
        version.statuses[HTTPStatus.SERVICE_UNAVAILABLE] += requests
        version.ends["rejected"] += requests
        version.fail.count += requests
        self._count(requests, rejected=True)

    def batch_computed(self, model: str, version: int, size: int, compute_s: float, reason: str) -> None:
        """Count a batch, with the reason for its release."""
        key = (model, version)
        stats = self._versions.get(key) or self._add(key)
        stats.compute_s.observe(compute_s)
        stats.batch_size.observe(size)
        stats.batches.setdefault(size, Duration()).add(compute_s)
        stats.releases[reason] += 1

    def snapshot(self) -> Snapshot:
        """Return the current counts, which share data with the store; merge them into an empty snapshot to change."""
        now_s = self._clock()
        self._advance_to(now_s)
        uptime_s = now_s - self._start_s
        window_s = min(max(1.0, uptime_s), WINDOW_S - 1 + now_s % 1)
        return Snapshot(
            versions=self._versions,
            requests=self._requests,
            rejected=self._rejected,
            uptime_s=uptime_s,
            requests_per_s=sum(self._per_second) / window_s,
            answered_s=[round(duration_s, 6) for duration_s in self._answered_s],
        )

    def _add(self, key: VersionKey) -> VersionStats:
        version = self._versions[key] = VersionStats()
        return version

    def _count(self, requests: int, *, rejected: bool) -> None:
        self._requests += requests
        if rejected:
            self._rejected += requests
        now_s = self._clock()
        if int(now_s) != self._second:
            self._advance_to(now_s)
        self._per_second[self._second % WINDOW_S] += requests

    def _advance_to(self, now_s: float) -> None:
        """Clear the seconds that have left the window."""
        second = int(now_s)
        for passed in range(max(self._second + 1, second - WINDOW_S + 1), second + 1):
            self._per_second[passed % WINDOW_S] = 0
        self._second = second


def merge_snapshots(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Return the merged counts of several processes."""
    merged = Snapshot()
    for snapshot in snapshots:
        merged.merge(snapshot)
    return merged


def _version_from_json(content: dict[str, Any]) -> VersionStats:
    histograms = {name: Histogram(**content[name]) for name in ("request_s", "decode_s", "queue_s", "compute_s")}
    return VersionStats(
        statuses=Counter({int(status): count for status, count in content["statuses"].items()}),
        ends=Counter(content["ends"]),
        batch_size=Histogram(**content["batch_size"]),
        success=Duration(**content["success"]),
        fail=Duration(**content["fail"]),
        request_compute=Duration(**content["request_compute"]),
        batches={int(size): Duration(**batch) for size, batch in content["batches"].items()},
        releases=Counter(content["releases"]),
        cached=content["cached"],
        last_inference_s=content["last_inference_s"],
        **histograms,
    )


def _percentile_ms(sorted_s: list[float], share: float) -> float | None:
    """Return a percentile of sorted durations, in milliseconds."""
    if not sorted_s:
        return None
    return round(sorted_s[max(0, math.ceil(share * len(sorted_s)) - 1)] * 1000, 3)
