"""Headers, metrics and log of the hot route; test_native.py tests the rest of the API."""

import json
import time

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from cifar10_serving.schemas import Problem
from service.settings import Settings
from service.telemetry.logs import FLUSH_AFTER_S
from tests.conftest import SAMPLES, SMALL_MODELS, newest_version, ready_client

CAT = SAMPLES[3].file.read_bytes()
PNG = {"Content-Type": "image/png"}


@pytest.mark.parametrize("value", ["0", "-1", "soon", "1.5", "3600001", "99999999999999999999"])
def test_deadline_that_is_no_legal_number_is_rejected(client: TestClient, value: str) -> None:
    response = client.post("/predict", content=CAT, headers={**PNG, "X-Request-Timeout-Ms": value})
    problem = Problem.model_validate_json(response.content)
    assert (response.status_code, problem.status) == (422, 422)
    assert problem.invalid_parameters is not None
    assert (problem.invalid_parameters[0].name, problem.invalid_parameters[0].value) == ("X-Request-Timeout-Ms", value)


def test_deadline_of_a_request_is_kept(client: TestClient) -> None:
    assert client.post("/predict", content=CAT, headers={**PNG, "X-Request-Timeout-Ms": "5000"}).status_code == 200


@pytest.mark.parametrize("path", ["/predict", "/models", "/nope"])
def test_request_id_comes_back_and_one_is_made_where_there_is_none(client: TestClient, path: str) -> None:
    assert client.get(path, headers={"X-Request-ID": "abc 123"}).headers["X-Request-ID"] == "abc 123"
    made = {client.get(path).headers["X-Request-ID"] for _ in range(3)}
    assert len(made) == 3
    assert client.get(path, headers={"X-Request-ID": "x" * 129}).headers["X-Request-ID"] != "x" * 129


def test_metrics_count_what_was_answered() -> None:
    with ready_client(Settings(models=SMALL_MODELS)) as client:
        for _ in range(3):
            client.post("/predict", params={"model": "functional"}, content=CAT, headers=PNG)
        client.post("/predict", params={"model": "nope"}, content=CAT, headers=PNG)
        client.post("/predict", params={"model": "functional"}, content=b"no image", headers=PNG)
        response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    values = {
        (sample.name.removeprefix("cifar10_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }
    version = ("functional", str(newest_version("functional")))
    assert values["requests_total", version[0], "200", version[1]] == 3
    assert values["requests_total", version[0], "400", version[1]] == 1
    assert values["requests_total", "", "404", ""] == 1
    assert values["compute_seconds_count", *version] == 3
    assert values["batch_rows_sum", *version] == 3
    assert values["queue_rows", *version] == 0
    assert values["version_state", version[0], "ready", version[1]] == 1
    assert values["pending_requests",] == 0
    assert values["process_resident_memory_bytes",] > 0


def test_cache_answers_and_is_counted() -> None:
    with ready_client(Settings(models=SMALL_MODELS, cache_bytes=100_000)) as client:
        answers = [client.post("/predict", content=CAT, headers=PNG).json() for _ in range(3)]
        metrics = client.get("/metrics").text
    assert answers[0] == answers[1] == answers[2]
    assert "cifar10_cache_hits_total 2.0" in metrics
    assert "cifar10_cache_misses_total 1.0" in metrics


@pytest.mark.parametrize(("share", "logged"), [(1.0, 2), (0.0, 0)])
def test_each_request_is_one_line_of_json(capfdbinary: pytest.CaptureFixture[bytes], share: float, logged: int) -> None:
    time.sleep(2 * FLUSH_AFTER_S)
    capfdbinary.readouterr()  # what the application of other tests, in this process, still had to write
    with ready_client(Settings(models=SMALL_MODELS, access_log_sample_rate=share)) as client:
        client.post("/predict", params={"model": "functional"}, content=CAT, headers={**PNG, "X-Request-ID": "mine"})
        client.post("/predict", params={"model": "nope"}, content=CAT, headers=PNG)
    lines = [json.loads(line) for line in capfdbinary.readouterr().err.splitlines() if b"service.requests" in line]
    assert len(lines) == logged
    if logged:
        answered, rejected = lines
        assert (answered["request_id"], answered["status"], answered["batch_rows"]) == ("mine", 200, 1)
        assert (answered["model"], answered["version"]) == ("functional", newest_version("functional"))
        assert answered["total_ms"] >= answered["compute_ms"] > 0
        assert (rejected["status"], rejected["error"]) == (404, "not-found")
        assert (rejected["requested_model"], "model" in rejected) == ("nope", False)
        assert "there is no model 'nope'" in rejected["detail"]
        assert answered["client"] == rejected["client"] == "testclient:50000"
