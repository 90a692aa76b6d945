"""Imported versions in an unedited service."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar10_serving.runtimes.openvino import OpenVinoRuntime
from service.settings import Settings
from tests.conftest import ready_client
from tests.training.importing.models import LABELS, SIDE, write_labels, write_onnx
from training.__main__ import main


def test_version_without_evaluations_serves_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = tmp_path / "models"
    file, labels = write_onnx(tmp_path / "model.onnx"), write_labels(tmp_path / "labels.txt")
    words = ["--labels", str(labels), "--scaling", "divide_by_255", "--models", str(models)]
    monkeypatch.setattr("sys.argv", ["training", "import", str(file), "--name", "garden", *words])
    assert main() == 0
    picture = BytesIO()
    Image.fromarray(np.full((SIDE, SIDE, 3), 204, np.uint8)).save(picture, "PNG")
    settings = Settings(models=models, poll_interval_s=0, precision="auto", default_model="garden")
    with ready_client(settings, OpenVinoRuntime("auto")) as client:
        assert client.get("/readyz").status_code == 200
        answer = client.post("/predict", files={"file": ("bright.png", picture.getvalue(), "image/png")})
        assert answer.status_code == 200, answer.text
        assert answer.json()["label"] == LABELS[0]
        status = client.get("/models").json()["models"][0]["versions"][0]
        assert (status["state"], status["precision"], status["test_accuracy"]) == ("ready", "float32", None)
        metadata = client.get("/models/garden/versions/1").json()
        assert (metadata["evaluations"], metadata["training"]) == ([], None)
        assert metadata["imported"]["source"] == "onnx"
        signatures = client.get("/v1/models/garden/metadata")
        assert signatures.status_code == 200, signatures.text
        assert "DT_UINT8" in signatures.text
