import pytest

from service.core.admission import Admission
from service.core.backlog import Backlog
from service.core.observation import Observation
from service.core.scheduler import BatchLimits, Scheduler
from service.errors import UnavailableError
from service.statistics import ProcessStatistics, Statistics, together


class Clock:
    now_s = 100.5

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def statistics(clock: Clock) -> Statistics:
    return Statistics(Backlog(Admission(8, 1024), 8), Scheduler(BatchLimits()), clock=clock)


def ended(total_s: float = 0.01, error: str | None = None) -> Observation:
    return Observation("POST", "/predict", total_s=total_s, error=error, is_inference=True)


def test_nothing_is_known_before_the_first_request(statistics: Statistics) -> None:
    now = statistics.now()
    assert (now.requests_total, now.requests_per_s, now.p50_ms, now.p99_ms) == (0, 0, None, None)


def test_the_rate_is_of_the_last_ten_seconds(statistics: Statistics, clock: Clock) -> None:
    for _ in range(50):
        statistics.request_ended(ended())
    clock.now_s += 5
    assert statistics.now().requests_per_s == pytest.approx(50 / 5)
    clock.now_s += 4
    assert statistics.now().requests_per_s == pytest.approx(50 / 9, abs=0.01)
    clock.now_s += 3600
    now = statistics.now()
    assert (now.requests_per_s, now.requests_total, now.uptime_s) == (0, 50, 3609)


def test_percentiles_are_of_answers_and_not_of_errors(statistics: Statistics) -> None:
    for milliseconds in range(1, 101):
        statistics.request_ended(ended(milliseconds / 1000))
    for _ in range(100):
        statistics.request_ended(ended(9, UnavailableError.kind))
    now = statistics.now()
    assert (now.p50_ms, now.p99_ms) == (50, 99)
    assert (now.requests_total, now.rejected_total) == (200, 100)


def test_other_requests_do_not_count(statistics: Statistics) -> None:
    statistics.request_ended(Observation("GET", "/stats"))
    assert statistics.now().requests_total == 0


def test_several_processes_are_told_as_one_service() -> None:
    busy = ProcessStatistics(9.0, 200, 20.0, 3, 5, 1, answered_s=[0.001] * 98 + [0.5])
    fresh = ProcessStatistics(2.0, 1, 0.5, 0, 1, 0, answered_s=[0.004])
    now = together([busy, fresh])
    assert (now.uptime_s, now.requests_total, now.requests_per_s, now.rejected_total) == (9.0, 201, 20.5, 1)
    assert (now.queue_rows, now.pending_requests) == (3, 6)
    assert (now.p50_ms, now.p99_ms) == (1, 4)
