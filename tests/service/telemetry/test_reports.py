from pathlib import Path

import pytest
from prometheus_client.metrics_core import GaugeMetricFamily

from service.telemetry.reports import FOLDER_VARIABLE, SharedReports, WorkerReport, merge_states, shared_reports
from service.telemetry.stats import Stats
from service.telemetry.trace import Trace

VERSION = ("sequential", 1)
OTHER_PID, THIRD_PID = 999_999_991, 999_999_992


def counted(requests: int) -> Stats:
    stats = Stats()
    for _ in range(requests):
        stats.request_finished(Trace(is_inference=True, model="sequential", version=1, status=200, total_s=0.01))
    return stats


def report(requests: int, pending: int = 0) -> WorkerReport:
    states = [GaugeMetricFamily("cifar10_pending_requests", "Requests", pending)]
    return WorkerReport(counted(requests).snapshot(), list(states), queue_size=2, pending_requests=pending)


def write_as(monkeypatch: pytest.MonkeyPatch, pid: int, folder: Path, written: WorkerReport) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: pid)
        SharedReports(folder).write(written)


def test_one_process_shares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    assert shared_reports() is None


def test_a_worker_sees_what_others_have_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_as(monkeypatch, OTHER_PID, tmp_path, report(3, pending=1))
    SharedReports(tmp_path).write(report(5))
    (other,) = SharedReports(tmp_path).others()
    assert other.snapshot.versions[VERSION].statuses == {200: 3}
    assert (other.queue_size, other.pending_requests) == (2, 1)
    assert [(state.name, state.samples[0].value) for state in other.states] == [("cifar10_pending_requests", 1)]


def test_a_worker_that_has_ended_leaves_its_counts_and_takes_its_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = SharedReports(tmp_path)
    for pid, requests in ((OTHER_PID, 3), (THIRD_PID, 4)):
        write_as(monkeypatch, pid, tmp_path, report(requests, pending=9))
        reports.mark_process_dead(pid)
    reports.mark_process_dead(12345)  # it ended before its first report
    (ended,) = reports.others()
    assert ended.snapshot.requests == 7
    assert ended.snapshot.versions[VERSION].statuses == {200: 7}
    assert (ended.states, ended.pending_requests, ended.snapshot.answered_s) == ([], 0, [])


def test_states_are_added_up_and_of_some_the_greatest_counts() -> None:
    def states(pending: float, state: float) -> list[GaugeMetricFamily]:
        version_state = GaugeMetricFamily("cifar10_version_state", "State", labels=("model", "state"))
        version_state.add_metric(("sequential", "ready"), state)
        return [GaugeMetricFamily("cifar10_pending_requests", "Requests", pending), version_state]

    merged = {family.name: family.samples for family in merge_states([*states(2, 1), *states(3, 1)])}
    assert [sample.value for sample in merged["cifar10_pending_requests"]] == [5]
    assert [sample.value for sample in merged["cifar10_version_state"]] == [1]
