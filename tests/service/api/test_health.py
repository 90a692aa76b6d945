from pathlib import Path

from fastapi.testclient import TestClient

from cifar10_serving.artifacts.layout import version_folder
from cifar10_serving.schemas import Readiness
from service.settings import Settings
from tests.conftest import SAMPLES, ready_client


def test_loaded_service_is_alive_and_ready(client: TestClient) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    readiness = Readiness.model_validate_json(client.get("/readyz").content)
    assert readiness.ready
    assert set(readiness.models.values()) == {"ready"}


def test_service_without_a_working_model_is_alive_but_not_ready(one_model: Path) -> None:
    (version_folder(one_model, "sequential", 1) / "saved_model.pb").write_bytes(b"broken")
    with ready_client(Settings(models=one_model)) as client:
        assert client.get("/livez").status_code == 200
        response = client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["models"] == {"sequential": "failed"}
        assert "could be loaded" in response.json()["reason"]
        rejected = client.post("/predict", content=SAMPLES[0].file.read_bytes(), headers={"Content-Type": "image/png"})
        assert rejected.status_code == 503
        assert int(rejected.headers["retry-after"]) >= 1


def test_service_without_any_model_is_not_ready(tmp_path: Path) -> None:
    with ready_client(Settings(models=tmp_path)) as client:
        response = client.get("/readyz")
        assert response.status_code == 503
        assert response.json() == {
            "ready": False,
            "reason": f"there is no published version in {tmp_path}",
            "models": {},
        }
