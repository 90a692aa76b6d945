"""The OpenAPI document: built without a model, and consistent with the routes' answers."""

import asyncio
import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx
import jsonschema
import pytest
from fastapi.openapi.utils import get_openapi
from fastapi.testclient import TestClient
from pydantic import SecretStr

from cifar10_serving.artifacts.metadata import ModelMetadata, Record
from cifar10_serving.schemas import (
    BatchPrediction,
    Comparison,
    Explanation,
    InstanceStatus,
    ModelList,
    ModelStatus,
    Prediction,
    Problem,
    Readiness,
    ServiceStatistics,
)
from service.app import create_app
from service.http.openapi import read_examples
from service.settings import Settings
from tests.conftest import MODELS, SAMPLES, SMALL_MODELS, ready_client

CAT = SAMPLES[3].file.read_bytes()
SECRET = SecretStr("a token of sixteen")
OPERATOR = {"Authorization": f"Bearer {SECRET.get_secret_value()}"}
LATE = {"X-Request-Timeout-Ms": "soon"}
CODED = {"Content-Encoding": "br"}
LARGE = b" " * 100_001
RECORDS: dict[str, type[Record]] = {
    "GET /models": ModelList,
    "GET /models/{name}": ModelStatus,
    "GET /models/{name}/versions/{version}": ModelMetadata,
    "GET /readyz": Readiness,
    "GET /stats": ServiceStatistics,
    "GET /instance": InstanceStatus,
    "POST /compare": Comparison,
    "POST /explain": Explanation,
    "POST /predict": Prediction,
    "POST /predict/batch": BatchPrediction,
}
TAKE_AN_IMAGE = ("/predict", "/predict/batch", "/compare", "/explain")
Operation = dict[str, Any]


@pytest.fixture(scope="module")
def operator() -> Iterator[TestClient]:
    """A client of an application with every route that there is."""
    with ready_client(Settings(models=SMALL_MODELS, admin_token=SECRET, max_body_bytes=100_000)) as client:
        yield client


@pytest.fixture(scope="module")
def document(operator: TestClient) -> dict[str, Any]:
    answered: dict[str, Any] = operator.get("/openapi.json").json()
    return answered


def test_document_is_made_once_and_runs_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("it is made again, or by a model")

    with ready_client(Settings(models=SMALL_MODELS)) as client:
        monkeypatch.setattr("service.inference.scheduler.Scheduler.submit", never)
        monkeypatch.setattr("tests.fakes.PublishedModel.predict", never)
        first = client.get("/openapi.json")
        monkeypatch.setattr("service.http.openapi.get_openapi", never)
        assert first.status_code == 200
        assert client.get("/openapi.json").content == first.content


def test_document_is_made_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bool] = []

    def noted(**arguments: Any) -> dict[str, Any]:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        made.append(True)
        return get_openapi(**arguments)

    monkeypatch.setattr("service.http.openapi.get_openapi", noted)
    with ready_client(Settings(models=SMALL_MODELS)) as client:
        assert client.get("/openapi.json").status_code == 200
    assert made == [True]


def test_document_describes_both_bodies_and_every_problem(document: dict[str, Any]) -> None:
    predict = document["paths"]["/predict"]["post"]
    assert {"multipart/form-data", "image/png", "image/jpeg"} <= set(predict["requestBody"]["content"])
    assert {"400", "404", "413", "415", "422", "503", "504"} <= set(predict["responses"])
    for status in ("400", "422", "503"):
        content = predict["responses"][status]["content"]
        assert list(content) == ["application/problem+json"]
        assert content["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert {"Problem", "InvalidParameter", "Prediction"} <= set(document["components"]["schemas"])


@pytest.mark.parametrize("name", RECORDS)
def test_document_has_a_real_example_of_each_record(document: dict[str, Any], name: str) -> None:
    method, path = name.split()
    content = document["paths"][path][method.lower()]["responses"]["200"]["content"]["application/json"]
    assert content["example"] == read_examples()[name]["200"]
    RECORDS[name].model_validate(content["example"])


@pytest.mark.parametrize("path", TAKE_AN_IMAGE)
def test_document_has_an_example_of_each_problem(document: dict[str, Any], path: str) -> None:
    for status, response in document["paths"][path]["post"]["responses"].items():
        if status != "200":
            problem = Problem.model_validate(response["content"]["application/problem+json"]["example"])
            assert problem.status == int(status)


def test_every_example_is_of_an_operation_and_a_status_that_there_are(document: dict[str, Any]) -> None:
    for name, examples in read_examples().items():
        method, path = name.split()
        assert examples.keys() <= document["paths"][path][method.lower()]["responses"].keys()


@dataclass(frozen=True)
class Probe:
    """A request, the operation that it is of, and the status that is expected."""

    status: int
    name: str
    path: str
    arguments: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.status} {self.name.split()[0]} {self.path}"


def probe(status: int, name: str, path: str = "", **arguments: Any) -> Probe:
    return Probe(status, name, path or name.split()[1], arguments)


def image_probes() -> Iterator[Probe]:
    for path in TAKE_AN_IMAGE:
        field = "files" if path == "/predict/batch" else "file"
        name = f"POST {path}"
        yield probe(200, name, files={field: ("cat.png", CAT, "image/png")})
        yield probe(400, name, files={"wrong": ("cat.png", CAT, "image/png")})
        yield probe(404, name, files={field: ("cat.png", CAT, "image/png")}, params={"model": "alexnet"})
        yield probe(413, name, files={field: ("cat.png", LARGE, "image/png")})
        yield probe(415, name, content=b"hello", headers={"Content-Type": "text/plain"})
        yield probe(415, name, content=CAT, headers={"Content-Type": "image/png", **CODED})
        yield probe(422, name, files={field: ("cat.png", CAT, "image/png")}, params={"modle": "x"})
        yield probe(422, name, files={field: ("cat.png", CAT, "image/png")}, headers=LATE)


def native_probes() -> Iterator[Probe]:
    for path in (
        "/livez",
        "/readyz",
        "/stats",
        "/instance",
        "/metrics",
        "/models",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
    ):
        yield probe(200, f"GET {path}")
    yield probe(200, "GET /v2/models/stats")
    yield probe(200, "GET /models/{name}", "/models/sequential")
    yield probe(404, "GET /models/{name}", "/models/alexnet")
    version = "GET /models/{name}/versions/{version}"
    for name, tail in ((version, ""), (f"{version}/plots/{{plot}}", "/plots/learning_curves")):
        yield probe(200, name, f"/models/sequential/versions/1{tail}")
        yield probe(404, name, f"/models/sequential/versions/999{tail}")
        yield probe(422, name, f"/models/sequential/versions/one{tail}")
    for tail in ("", "/ready", "/config", "/stats"):
        yield probe(200, f"GET /v2/models/{{model}}{tail}", f"/v2/models/sequential{tail}")
        yield probe(404, f"GET /v2/models/{{model}}{tail}", f"/v2/models/alexnet{tail}")
        of_version = f"GET /v2/models/{{model}}/versions/{{version}}{tail}"
        yield probe(404, of_version, f"/v2/models/sequential/versions/999{tail}")
        yield probe(400, of_version, f"/v2/models/sequential/versions/-1{tail}")


def computing_probes() -> Iterator[Probe]:
    text = base64.b64encode(CAT).decode()
    infer = {"inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [text]}]}
    instances = {"instances": [[[[0] * 3] * 32] * 32]}
    listed = {"signature_name": "encoded_images", "examples": [{"image_bytes": {"b64": text}}]}
    for name, path in (
        ("POST /v2/models/{model}/infer", "/v2/models/sequential/infer"),
        ("POST /v1/models/{model}:predict", "/v1/models/sequential:predict"),
        ("POST /v1/models/{model}:classify", "/v1/models/sequential:classify"),
    ):
        body = infer if "infer" in path else instances if "predict" in path else listed
        yield probe(200, name, path, json=body)
        yield probe(400, name, path, content=b"{")
        yield probe(404, name, path.replace("sequential", "alexnet"), json=body)
        yield probe(413, name, path, content=LARGE)
        yield probe(415, name, path, json=body, headers=CODED)
        yield probe(422, name, path, json=body, headers=LATE)
    shared = {"inputs": [{**infer["inputs"][0], "parameters": {"shared_memory_region": "x"}}]}
    yield probe(501, "POST /v2/models/{model}/infer", "/v2/models/sequential/infer", json=shared)
    yield probe(200, "GET /v1/models/{model}", "/v1/models/sequential")
    yield probe(404, "GET /v1/models/{model}", "/v1/models/alexnet")
    yield probe(400, "GET /v1/models/{model}/versions/{version}", "/v1/models/sequential/versions/one")
    yield probe(400, "GET /v1/models/{model}/labels/{label}", "/v1/models/sequential/labels/1")
    yield probe(200, "GET /v1/models/{model}/metadata", "/v1/models/sequential/metadata")
    yield probe(404, "GET /v1/models/{model}/metadata", "/v1/models/alexnet/metadata")


def operator_probes() -> Iterator[Probe]:
    index, load = "POST /v2/repository/index", "POST /v2/repository/models/{model}/load"
    unload = load.replace("/load", "/unload")
    for name in (index, load, unload, "POST /admin/reload"):
        path = name.split()[1].replace("{model}", "functional")
        yield probe(401, name, path)
        yield probe(200, name, path, headers=OPERATOR)
    for name in (index, load, unload):
        path = name.split()[1].replace("{model}", "functional")
        yield probe(400, name, path, content=b"{", headers=OPERATOR)
        yield probe(413, name, path, content=LARGE, headers=OPERATOR)
        yield probe(415, name, path, content=b"{}", headers=OPERATOR | CODED)
        if name != index:
            yield probe(404, name, path.replace("functional", "alexnet"), headers=OPERATOR)
    configured = {"parameters": {"config": "{}"}}
    yield probe(501, load, "/v2/repository/models/functional/load", json=configured, headers=OPERATOR)


PROBES = [*image_probes(), *native_probes(), *computing_probes(), *operator_probes()]


@pytest.mark.parametrize("probe", PROBES, ids=str)
def test_answers_are_as_the_document_says(operator: TestClient, document: dict[str, Any], probe: Probe) -> None:
    method, template = probe.name.split()
    response = operator.request(method, probe.path, **probe.arguments)
    assert response.status_code == probe.status, response.text
    check_declared(document, document["paths"][template][method.lower()], response)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("GET /readyz", "/readyz"),
        ("GET /v2/health/ready", "/v2/health/ready"),
        ("GET /v2/models/{model}", "/v2/models/sequential"),
        ("GET /v2/models/{model}/ready", "/v2/models/sequential/ready"),
        ("GET /v2/models/{model}/config", "/v2/models/sequential/config"),
        ("GET /v1/models/{model}/metadata", "/v1/models/sequential/metadata"),
        ("POST /predict", "/predict"),
        ("POST /compare", "/compare"),
        ("POST /v2/models/{model}/infer", "/v2/models/sequential/infer"),
        ("POST /v1/models/{model}:predict", "/v1/models/sequential:predict"),
    ],
)
def test_answers_while_nothing_is_ready_are_as_the_document_says(
    document: dict[str, Any], loading: TestClient, name: str, path: str
) -> None:
    method, template = name.split()
    body = {"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": [0] * 3072}]}
    arguments: dict[str, Any] = {}
    if method == "POST":
        arguments = {"json": body} if path.startswith("/v") else {"files": {"file": ("cat.png", CAT, "image/png")}}
    response = loading.request(method, path, **arguments)
    assert response.status_code == 503, response.text
    assert int(response.headers["retry-after"]) > 0
    check_declared(document, document["paths"][template][method.lower()], response)


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A client of an application whose models never become ready."""
    monkeypatch.setattr("service.registry.repository.ModelRepository.load_all", lambda _: None)
    with TestClient(create_app(Settings(models=MODELS, poll_interval_s=0))) as client:
        yield client


def check_declared(document: dict[str, Any], operation: Operation, response: httpx.Response) -> None:
    """The status, the content type and the form of an answer are those that an operation declares."""
    declared = operation["responses"][str(response.status_code)].get("content", {})
    if not response.content:
        assert not declared, "the document promises a body"
        return
    kind = re.split(r"\s*;", response.headers["content-type"])[0]
    assert kind in declared
    if kind.endswith("json"):
        schema = declared[kind]["schema"]
        assert schema, "the document says nothing of the body"
        jsonschema.validate(response.json(), schema | {"components": document["components"]})
