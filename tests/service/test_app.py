import socket
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from cifar10_serving.errors import RuntimeUnavailableError
from service.app import create_app, open_service
from service.errors import SettingsError
from service.process.lifecycle import Group
from service.settings import Settings
from tests.conftest import MODELS
from tests.fakes import FakeRuntime


def test_missing_models_folder_is_named_with_its_variable(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"CIFAR10_MODELS = .*/nowhere': there is no such folder"):
        create_app(Settings(models=tmp_path / "nowhere"))


def test_gpu_that_is_not_there_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeUnavailableError, match="device gpu was requested"):
        create_app(Settings(models=MODELS, device="gpu"))


def test_replica_starts_when_its_models_are_loaded_and_rejects_changes_of_itself_alone() -> None:
    settings = Settings(models=MODELS, admin_token=SecretStr("a-token-of-24-characters"), instance="node-7")
    service = open_service(settings, runtime=FakeRuntime(), group=Group.REPLICAS)
    with TestClient(service.application, headers={"Authorization": "Bearer a-token-of-24-characters"}) as client:
        assert client.get("/readyz").json()["ready"]
        for call in ("load", "unload"):
            rejected = client.post(f"/v2/repository/models/sequential/{call}")
            assert (rejected.status_code, "has several instances" in rejected.json()["error"]) == (501, True)
        assert client.post("/v2/repository/index").status_code == 200
        assert client.get("/stats").json()["instance"] == "node-7"
        info = next(
            line for line in client.get("/metrics").text.splitlines() if line.startswith("cifar10_instance_info{")
        )
        assert 'name="node-7"' in info


def test_instance_is_called_like_its_machine_by_default() -> None:
    with TestClient(open_service(Settings(models=MODELS), runtime=FakeRuntime()).application) as client:
        assert client.get("/stats").json()["instance"] == socket.gethostname()
