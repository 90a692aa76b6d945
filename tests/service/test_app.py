from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from catalog.artifact import version_folder
from catalog.errors import RuntimeUnavailableError
from catalog.metadata import Record
from catalog.responses import BatchPrediction, Comparison, Explanation, Prediction, Problem, ServiceStatistics
from runtime.golden import read_golden
from service.app import create_app
from service.errors import SettingsError
from service.settings import Settings
from tests.conftest import MODELS


def test_missing_models_folder_is_named_with_its_variable(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"CIFAR10_MODELS = .*/nowhere': there is no such folder"):
        create_app(Settings(models=tmp_path / "nowhere"))


def test_gpu_that_is_not_there_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeUnavailableError, match="device gpu was asked for"):
        create_app(Settings(models=MODELS, device="gpu"))


def test_documents_need_nothing_from_outside(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "//cdn" not in page
    assert client.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200
    assert 'href="docs"' in client.get("/").text


def test_openapi_document_describes_both_bodies_and_every_problem(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    predict = document["paths"]["/predict"]["post"]
    assert {"multipart/form-data", "image/png", "image/jpeg"} <= set(predict["requestBody"]["content"])
    assert {"400", "404", "413", "415", "422", "503", "504"} <= set(predict["responses"])
    for status in ("400", "422", "503"):
        content = predict["responses"][status]["content"]
        assert list(content) == ["application/problem+json"]
        assert content["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert {"Problem", "InvalidParameter", "Prediction"} <= set(document["components"]["schemas"])


def test_openapi_examples_are_answers_of_this_service(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for path in ("/models", "/livez", "/readyz"):
        assert example_of(document, path, "get") == client.get(path).json()
    model = client.get("/models").json()["default_model"]
    assert example_of(document, "/models/{name}", "get") == client.get(f"/models/{model}").json()
    prediction = Prediction.model_validate(example_of(document, "/predict", "post"))
    golden = read_golden(version_folder(MODELS, model, prediction.version) / "golden.npz")
    assert prediction.class_id == golden.probabilities[0].argmax()
    for status, response in document["paths"]["/predict"]["post"]["responses"].items():
        if status != "200":
            problem = Problem.model_validate(response["content"]["application/problem+json"]["example"])
            assert problem.status == int(status)


def test_openapi_document_has_a_real_example_of_each_route_that_takes_images(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    records: dict[str, type[Record]] = {
        "/predict/batch": BatchPrediction,
        "/compare": Comparison,
        "/explain": Explanation,
    }
    for path, record in records.items():
        operation = document["paths"][path]["post"]
        record.model_validate(example_of(document, path, "post"))
        assert "multipart/form-data" in operation["requestBody"]["content"]
        for status, response in operation["responses"].items():
            if status != "200":
                problem = Problem.model_validate(response["content"]["application/problem+json"]["example"])
                assert problem.status == int(status)
    comparison = Comparison.model_validate(example_of(document, "/compare", "post"))
    assert all(answer.timings is not None for answer in comparison.answers)
    ServiceStatistics.model_validate(example_of(document, "/stats", "get"))


def example_of(document: dict[str, Any], path: str, method: str) -> dict[str, Any]:
    content = document["paths"][path][method]["responses"]["200"]["content"]["application/json"]
    example: dict[str, Any] = content["example"]
    return example
