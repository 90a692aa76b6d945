from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from cifar10_serving.schemas import ModelStatus, Problem, ReloadReport
from service.settings import Settings
from tests.conftest import SAMPLES, ready_client
from tests.version_copies import publish_copy, write_rollout

GIVEN = "käse-und-brot-0123"
AUTHORIZED = {b"Authorization": f"Bearer {GIVEN}".encode()}


@pytest.fixture
def admin(one_model: Path) -> Iterator[TestClient]:
    with ready_client(Settings(models=one_model, admin_token=SecretStr(GIVEN), poll_interval_s=0)) as client:
        yield client


def test_there_is_no_such_route_without_a_token(client: TestClient) -> None:
    assert client.post("/admin/reload").status_code == 404
    assert "/admin/reload" not in client.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"", "the token is missing"),
        (b"Bearer wrong", "the token is wrong"),
        (b"Bearer ", "the token is"),
        (b"Basic dTpw", "the token is missing"),
        (f"Bearer {GIVEN}x".encode(), "the token is wrong"),
    ],
)
def test_wrong_token_is_rejected(admin: TestClient, header: bytes, words: str) -> None:
    response = admin.post("/admin/reload", headers={b"Authorization": header})
    problem = Problem.model_validate_json(response.content)
    assert (response.status_code, problem.status) == (401, 401)
    assert response.headers["www-authenticate"] == "Bearer"
    assert words in problem.detail
    assert "CIFAR10_ADMIN_TOKEN" in (problem.remedy or "")
    assert GIVEN not in response.text


def test_reload_answers_with_what_it_changed(one_model: Path, admin: TestClient) -> None:
    publish_copy(one_model, 2)
    publish_copy(one_model, 3, broken=True)
    write_rollout(one_model, polcy="all")
    response = admin.post("/admin/reload", headers=AUTHORIZED)
    report = ReloadReport.model_validate_json(response.content)
    assert [entry.version for entry in report.loaded] == [2]
    assert [entry.version for entry in report.unloaded] == [1]
    assert [entry.version for entry in report.failed] == [3]
    assert report.problems[0].startswith("sequential/serving.json: polcy")
    status = ModelStatus.model_validate_json(admin.get("/models/sequential").content)
    assert (status.serving_version, status.problem) == (2, report.problems[0])


def test_labels_and_the_shadow_are_seen_by_users(one_model: Path, admin: TestClient) -> None:
    publish_copy(one_model, 2, source=2)
    write_rollout(one_model, labels={"stable": 1}, shadow=2)
    admin.post("/admin/reload", headers=AUTHORIZED)
    files = {"file": SAMPLES[0].file.read_bytes()}
    for parameters, version in (({}, 1), ({"version": "stable"}, 1), ({"version": "2"}, 2)):
        assert admin.post("/predict", files=files, params=parameters).json()["version"] == version
    unknown = admin.post("/predict", files=files, params={"version": "canary"})
    assert unknown.status_code == 404
    assert unknown.json()["available"] == ["1", "2", "stable"]
    status = ModelStatus.model_validate_json(admin.get("/models/sequential").content)
    assert status.labels == {"stable": 1}
    assert status.shadow is not None


def test_document_describes_the_route(admin: TestClient) -> None:
    document = admin.get("/openapi.json").json()
    assert document["paths"]["/admin/reload"]["post"]["security"] == [{"HTTPBearer": []}]
