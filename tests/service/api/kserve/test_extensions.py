from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from service.settings import Settings
from tests.conftest import ready_client
from tests.service.api.kserve.requests import image_input
from tests.version_copies import flip_a_bit, publish_copy

GIVEN = "a-secret-of-some-length"
AUTHORIZED = {"Authorization": f"Bearer {GIVEN}"}
INDEX = "/v2/repository/index"
LOAD = "/v2/repository/models/sequential/load"
UNLOAD = "/v2/repository/models/sequential/unload"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "sequential").mkdir()
    for version in (1, 2):
        publish_copy(folder, version, source=version)
    return folder


@pytest.fixture(scope="module")
def admin(models: Path) -> Iterator[TestClient]:
    settings = Settings(models=models, admin_token=SecretStr(GIVEN), poll_interval_s=0)
    with ready_client(settings) as client:
        client.headers.update(AUTHORIZED)
        yield client


def states(client: TestClient, *, ready: bool = False) -> dict[str, str]:
    entries = client.post(INDEX, json={"ready": ready}).json()
    return {entry["version"]: entry["state"] for entry in entries}


def infers(client: TestClient) -> int:
    status: int = client.post("/v2/models/sequential/infer", json={"inputs": [image_input(1)]}).status_code
    return status


def test_index_tells_states_and_reasons(admin: TestClient) -> None:
    assert "model_repository" in admin.get("/v2").json()["extensions"]
    entries = {entry["version"]: entry for entry in admin.post(INDEX).json()}
    assert entries["2"] == {"name": "sequential", "version": "2", "state": "READY", "reason": ""}
    assert entries["1"]["state"] == "UNAVAILABLE"
    assert entries["1"]["reason"] == "the policy latest(1) doesn't select it"
    assert states(admin, ready=True) == {"2": "READY"}


def test_unloaded_model_answers_no_more_until_it_is_loaded(admin: TestClient) -> None:
    assert infers(admin) == 200
    assert admin.post(UNLOAD, json={"parameters": {"unload_dependents": False}}).status_code == 200
    assert states(admin) == {"2": "UNAVAILABLE", "1": "UNAVAILABLE"}
    assert "unloaded by the operator" in admin.post(INDEX).json()[0]["reason"]
    rejected = admin.post("/v2/models/sequential/infer", json={"inputs": [image_input(1)]})
    assert (rejected.status_code, "unloaded by the operator" in rejected.json()["error"]) == (404, True)
    assert admin.get("/readyz").status_code == 503
    assert admin.post("/admin/reload").json()["loaded"] == []
    assert admin.post(LOAD).status_code == 200
    assert (states(admin)["2"], infers(admin)) == ("READY", 200)


def test_load_finds_new_versions_and_tries_again_what_failed(models: Path, admin: TestClient) -> None:
    folder = publish_copy(models, 3, broken=True)
    assert admin.post(LOAD).status_code == 200
    assert (states(admin)["3"], states(admin)["2"], infers(admin)) == ("UNAVAILABLE", "READY", 200)
    flip_a_bit(folder / "saved_model.pb")
    assert admin.post(LOAD).status_code == 200
    assert states(admin) == {"3": "READY", "2": "UNAVAILABLE", "1": "UNAVAILABLE"}


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v2/repository/models/alexnet/load", {}, 404, "no model 'alexnet'"),
        ("/v2/repository/models/alexnet/unload", {}, 404, "no model 'alexnet'"),
        (LOAD, {"parameters": {"config": "{}"}}, 501, "'config' would change a published version"),
        (LOAD, {"parameters": {"file:1/model.pb": "x"}}, 501, "would change a published version"),
        (LOAD, [], 400, "object"),
        (INDEX, {"ready": "soon"}, 400, "ready: Input should be a valid boolean"),
    ],
)
def test_what_can_not_be_done_is_rejected(admin: TestClient, path: str, body: object, status: int, words: str) -> None:
    response = admin.post(path, json=body)
    assert response.status_code == status
    assert words in response.json()["error"]


@pytest.mark.parametrize("path", [INDEX, LOAD, UNLOAD])
def test_operator_alone_may_ask(admin: TestClient, path: str) -> None:
    response = admin.post(path, headers={"Authorization": "Bearer wrong"})
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert "the token is wrong" in response.json()["error"]
    assert infers(admin) == 200


def test_model_of_which_nothing_loads_is_an_error_with_the_reason(models: Path, admin: TestClient) -> None:
    admin.post(UNLOAD)
    for version in (1, 2, 3):
        flip_a_bit(models / f"sequential/{version}/saved_model.pb")
    response = admin.post(LOAD)
    for version in (1, 2, 3):
        flip_a_bit(models / f"sequential/{version}/saved_model.pb")
    assert admin.post(LOAD).status_code == 200
    assert response.status_code == 503
    assert "is not what was published" in response.json()["error"]
