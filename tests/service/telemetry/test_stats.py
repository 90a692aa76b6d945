import numpy as np
import orjson
import pytest

from service.errors import DeadlineError, UnavailableError
from service.inference.scheduler import Computed
from service.telemetry.stats import NO_VERSION, Histogram, Snapshot, Stats, merge_snapshots
from service.telemetry.trace import Trace

SEQUENTIAL = ("sequential", 1)


class Clock:
    now_s = 100.5

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stats(clock: Clock) -> Stats:
    return Stats(clock=clock, wall_clock=lambda: 1234.5)


def ended(total_s: float = 0.01, error: str | None = None) -> Trace:
    return Trace("POST", "/predict", total_s=total_s, error=error, is_inference=True)


def answered(**parts: object) -> Trace:
    return Trace(is_inference=True, model="sequential", version=1, total_s=0.5, status=200, **parts)  # type: ignore[arg-type]


def service(snapshot: Snapshot) -> tuple[int, float, int]:
    now = snapshot.service_statistics(queue_size=0, pending_requests=0)
    return now.requests_total, now.requests_per_s, now.rejected_total


def test_nothing_is_known_before_the_first_request(stats: Stats) -> None:
    now = stats.snapshot().service_statistics(queue_size=3, pending_requests=5)
    assert (now.requests_total, now.requests_per_s, now.p50_ms, now.p99_ms) == (0, 0, None, None)
    assert (now.queue_rows, now.pending_requests) == (3, 5)


def test_the_rate_is_of_the_last_ten_seconds(stats: Stats, clock: Clock) -> None:
    for _ in range(50):
        stats.request_finished(ended())
    clock.now_s += 5
    assert service(stats.snapshot())[1] == pytest.approx(50 / 5)
    clock.now_s += 4
    assert service(stats.snapshot())[1] == pytest.approx(50 / 9, abs=0.01)
    clock.now_s += 3600
    assert service(stats.snapshot()) == (50, 0, 0)
    assert stats.snapshot().uptime_s == 3609


def test_percentiles_are_of_answers_and_not_of_errors(stats: Stats) -> None:
    for milliseconds in range(1, 101):
        stats.request_finished(ended(milliseconds / 1000))
    for _ in range(100):
        stats.request_finished(ended(9, UnavailableError.kind))
    now = stats.snapshot().service_statistics(queue_size=0, pending_requests=0)
    assert (now.p50_ms, now.p99_ms) == (50, 99)
    assert (now.requests_total, now.rejected_total) == (200, 100)


def test_requests_for_anything_else_are_not_counted(stats: Stats) -> None:
    stats.request_finished(Trace("GET", "/stats"))
    stats.request_finished(Trace(model="sequential", version=1))
    assert stats.snapshot().requests == 0
    assert stats.version(SEQUENTIAL).success.count == 0


def test_a_request_counts_for_its_version_with_its_durations_and_its_end(stats: Stats) -> None:
    computed = Computed(np.zeros((3, 10), np.float32), queue_s=0.1, compute_s=0.2, batch_rows=3)
    stats.request_finished(answered(computed=computed, decode_s=0.05))
    stats.request_finished(answered(from_cache=True))
    stats.request_finished(answered(error=DeadlineError.kind))
    version = stats.version(SEQUENTIAL)
    assert (version.success.count, version.success.total_s) == (2, 1.0)
    assert (version.fail.count, version.fail.total_s, version.ends) == (1, 0.5, {"expired": 1})
    assert (version.queue_s.count, version.queue_s.total) == (1, 0.1)
    assert (version.request_compute.total_s, version.decode_s.total) == (0.2, 0.05)
    assert (version.request_s.count, version.request_s.total) == (3, 1.5)
    assert (version.cached, version.last_inference_s, version.statuses) == (1, 1234.5, {200: 3})


def test_batches_are_counted_by_size(stats: Stats) -> None:
    for size in (3, 3, 1):
        stats.batch_computed("sequential", 1, size, 0.25, "idle")
    version = stats.version(SEQUENTIAL)
    assert (version.rows, version.executions) == (7, 3)
    assert (version.batches[3].count, version.batches[3].total_s) == (2, 0.5)
    assert (version.compute_s.count, version.batch_size.total) == (3, 7)


def test_rejections_count_as_failed_requests_without_durations(stats: Stats) -> None:
    stats.requests_rejected(SEQUENTIAL, 5)
    stats.requests_rejected(None, 2)
    assert service(stats.snapshot()) == (7, 7.0, 7)
    version = stats.version(SEQUENTIAL)
    assert (version.statuses, version.ends, version.fail.count) == ({503: 5}, {"rejected": 5}, 5)
    assert stats.version(NO_VERSION).statuses == {503: 2}
    assert version.request_s.count == 0


def test_a_value_on_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram((1, 2, 4))
    for value in (1, 1.5, 2, 9):
        histogram.observe(value)
    assert (histogram.counts, histogram.count, histogram.total) == ([1, 2, 0, 1], 4, 13.5)


def test_several_processes_merge_into_one_service(clock: Clock) -> None:
    busy, fresh = Stats(clock=clock), Stats(clock=clock)
    for _ in range(98):
        busy.request_finished(answered())
    busy.batch_computed("sequential", 1, 4, 0.5, "idle")
    fresh.request_finished(answered(error=UnavailableError.kind))
    fresh.batch_computed("sequential", 1, 4, 0.25, "idle")
    fresh.requests_rejected(None, 3)
    written = [orjson.dumps(stats.snapshot().to_json(), option=orjson.OPT_NON_STR_KEYS) for stats in (busy, fresh)]
    snapshots = [Snapshot.from_json(orjson.loads(content)) for content in written]
    merged = merge_snapshots(snapshots)
    version = merged.versions[SEQUENTIAL]
    assert (version.success.count, version.fail.count, version.statuses[200]) == (98, 1, 99)
    assert (version.batches[4].count, version.batches[4].total_s) == (2, 0.75)
    assert service(merged) == (102, 102.0, 4)
    assert busy.version(SEQUENTIAL).fail.count == 0  # merging changes none of them
