from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from cifar10_serving.schemas import BatchPrediction
from service.settings import Settings
from tests.conftest import SAMPLES, golden_class, ready_client
from tests.service.api.test_native import problem_of

PATH = "/predict/batch"
CONTENTS = [sample.file.read_bytes() for sample in SAMPLES]


def files(*entries: tuple[str, bytes, str]) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("files", entry) for entry in entries]


def answers(client: TestClient, *entries: tuple[str, bytes, str], **parameters: Any) -> BatchPrediction:
    response = client.post(PATH, files=files(*entries), params=parameters)
    assert response.status_code == 200, response.text
    return BatchPrediction.model_validate_json(response.content)


def test_each_file_has_its_answer_in_the_order_sent(client: TestClient) -> None:
    entries = [(sample.file.name, sample.file.read_bytes(), "image/png") for sample in SAMPLES]
    batch = answers(client, *entries, model="sequential", top_k=2)
    assert [result.name for result in batch.results] == [sample.file.name for sample in SAMPLES]
    for sample, result in zip(SAMPLES, batch.results, strict=True):
        assert result.prediction is not None
        assert result.error is None
        assert result.prediction.class_id == golden_class("sequential", sample)
        assert (result.prediction.model, result.prediction.version) == (batch.model, batch.version)
        assert len(result.prediction.top) == 2


def test_a_bad_file_spoils_only_its_own_entry(client: TestClient) -> None:
    batch = answers(
        client,
        ("text.png", b"hello, I am text", "image/png"),
        ("cat.png", CONTENTS[3], "image/png"),
        ("notes.txt", b"hello", "text/plain"),
        ("half.png", CONTENTS[0][:1200], "image/png"),
        ("empty.png", b"", "image/png"),
        ("ship.png", CONTENTS[8], "application/octet-stream"),
        model="sequential",
    )
    assert [result.error.status if result.error else 200 for result in batch.results] == [400, 200, 415, 400, 400, 200]
    assert all((result.prediction is None) != (result.error is None) for result in batch.results)
    assert [result.prediction.class_id for result in batch.results if result.prediction] == [
        golden_class("sequential", SAMPLES[3]),
        golden_class("sequential", SAMPLES[8]),
    ]


def test_files_that_are_all_bad_still_say_who_would_have_answered(client: TestClient) -> None:
    batch = answers(client, ("text.png", b"hello", "image/png"), model="functional")
    assert batch.model == "functional"
    assert batch.results[0].error is not None


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        ({"files": {"file": ("cat.png", CONTENTS[3])}}, 400, "no field 'files': the form has 'file'"),
        ({"content": CONTENTS[3], "headers": {"Content-Type": "image/png"}}, 415, "curl -F files=@cat.png"),
        ({"files": files(("cat.png", CONTENTS[3], "image/png")), "params": {"top_k": 11}}, 422, "top_k = 11"),
        ({"files": files(("cat.png", CONTENTS[3], "image/png")), "params": {"modle": "x"}}, 422, "modle"),
        ({"files": files(("cat.png", CONTENTS[3], "image/png")), "params": {"model": "alexnet"}}, 404, "alexnet"),
        ({"files": files(("big.png", b"x" * 20_971_521, "image/png"))}, 413, "at most 20,971,520 bytes"),
        ({"files": files(*[("cat.png", b"x", "image/png")] * 513)}, 413, "more than 512 files"),
    ],
    ids=["field", "raw body", "top_k", "misspelt", "model", "bytes", "files"],
)
def test_a_request_that_cannot_be_answered_at_all_is_rejected(
    client: TestClient, sent: dict[str, Any], status: int, words: str
) -> None:
    problem = problem_of(client.post(PATH, **sent), status)
    assert words in f"{problem.detail} {problem.expected}"


def test_the_same_limits_hold_as_for_one_image(client: TestClient) -> None:
    form = files(("cat.png", CONTENTS[3], "image/png"))
    headers = {"X-Request-Timeout-Ms": "soon"}
    assert "soon" in problem_of(client.post(PATH, files=form, headers=headers), 422).detail


def test_requests_are_counted_as_those_for_one_image_are(one_model: Path) -> None:
    with ready_client(Settings(models=one_model, max_images_per_request=2)) as client:
        three = files(*[("cat.png", CONTENTS[3], "image/png")] * 3)
        problem_of(client.post(PATH, files=three), 413)
        assert client.post(PATH, files=three[:2], params={"model": "sequential"}).status_code == 200
        metrics = client.get("/metrics").text
        assert 'cifar10_requests_total{model="",status="413",version=""} 1.0' in metrics
        assert 'cifar10_request_seconds_count{model="sequential",version="1"} 1.0' in metrics
        statistics = client.get("/stats").json()
        assert (statistics["requests_total"], statistics["rejected_total"]) == (2, 0)
        assert 0 < statistics["p50_ms"] <= statistics["p99_ms"]
