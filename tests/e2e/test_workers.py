"""Several processes on one port act as one service: they share requests, metrics, reloads and the shutdown."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cifar10_serving.schemas import Prediction, ReloadReport, ServiceStatistics
from tests.conftest import SAMPLES, golden_class
from tests.e2e.server import Server, running_server
from tests.version_copies import publish_copy
from tests.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.slow
CAT = SAMPLES[3]
TOKEN = "a-token-of-the-tests"  # noqa: S105
PNG = {"Content-Type": "image/png"}


@pytest.fixture
def server(one_model: Path, tmp_path: Path) -> Iterator[Server]:
    with running_server(
        tmp_path / "log",
        CIFAR10_WORKERS="2",
        CIFAR10_MODELS=str(one_model),
        CIFAR10_ADMIN_TOKEN=TOKEN,
        CIFAR10_POLL_INTERVAL_S="0",
    ) as started:
        eventually(lambda: len(workers(started)) == 2)
        eventually(lambda: value(started, "version_state", version="1", state="ready") == 1)
        yield started


def workers(server: Server) -> list[int]:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in command_of(pid)]


def command_of(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has just ended
        return b""


def eventually(condition: Callable[[], bool]) -> None:
    wait_until(condition, look_every_s=0.1)


def predict(server: Server) -> Prediction:
    response = httpx.post(f"{server.url}/predict", content=CAT.file.read_bytes(), headers=PNG, timeout=60)
    assert response.status_code == 200, response.text
    return Prediction.model_validate_json(response.content)


def statistics(server: Server) -> ServiceStatistics:
    return ServiceStatistics.model_validate_json(httpx.get(f"{server.url}/stats").content)


def inferences(server: Server) -> int:
    report = httpx.get(f"{server.url}/v2/models/stats").json()
    return sum(entry["inference_stats"]["success"]["count"] for entry in report["model_stats"])


def value(server: Server, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)
        for sample in family.samples
        if sample.name == f"cifar10_{name}" and labels.items() <= sample.labels.items()
    )


def test_workers_are_one_service(one_model: Path, server: Server) -> None:
    with ThreadPoolExecutor(8) as threads:
        predictions = list(threads.map(lambda _: predict(server), range(40)))
    assert {prediction.class_id for prediction in predictions} == {golden_class("sequential", CAT, 1)}
    # Whichever worker answers; each reports its own once a second.
    eventually(lambda: {value(server, "requests_total", status="200") for _ in range(10)} == {40})
    eventually(lambda: {statistics(server).requests_total for _ in range(10)} == {40})
    eventually(lambda: {inferences(server) for _ in range(10)} == {40})
    eventually(lambda: value(server, "pending_requests") == 0)
    unload = f"{server.url}/v2/repository/models/sequential/unload"
    rejected = httpx.post(unload, headers={"Authorization": f"Bearer {TOKEN}"})
    assert (rejected.status_code, "has several workers" in rejected.json()["error"]) == (501, True)

    publish_copy(one_model, 2)
    reload = httpx.post(f"{server.url}/admin/reload", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
    assert [entry.version for entry in ReloadReport.model_validate_json(reload.content).loaded] in ([2], [])
    versions: list[int] = []  # of the answers until both workers have seen it

    def latest_versions() -> set[int]:
        versions.extend(predict(server).version for _ in range(10))
        return set(versions[-10:])

    eventually(lambda: latest_versions() == {2})
    of_first = 40 + versions.count(1)
    eventually(lambda: value(server, "requests_total", status="200", version="1") == of_first)

    lost = workers(server)[0]
    os.kill(lost, signal.SIGKILL)
    eventually(lambda: len(workers(server)) == 2 and lost not in workers(server))
    assert predict(server).version == 2
    eventually(lambda: value(server, "requests_total", status="200", version="1") == of_first)  # the lost worker's, too
    assert f"worker {lost} was killed by SIGKILL" in server.log.read_text()

    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE_S) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/livez")


def test_no_worker_outlives_its_supervisor(server: Server) -> None:
    left = workers(server)
    server.process.kill()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))


def test_workers_that_can_not_start_end_the_service(tmp_path: Path) -> None:
    settings = {"CIFAR10_WORKERS": "2", "CIFAR10_MODELS": str(tmp_path / "nowhere")}
    with (
        pytest.raises(AssertionError, match=r"the server ended with 2: .*there is no such folder"),
        running_server(tmp_path / "log", **settings),
    ):
        pass
