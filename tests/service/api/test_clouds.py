"""The routes of SageMaker and Vertex AI, as their documents describe them."""

import base64
import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient

from cifar10_serving.artifacts.layout import version_folder
from service.api.clouds import predict_handler
from service.api.large_requests import RequestReader
from service.api.predict import predict_handler as native_handler
from service.errors import UnavailableError
from service.http.exchange import Handler, HttpExchange
from service.inference.admission import Admission, Backlog, Slot, Ticket
from service.inference.pipeline import Inferred, Pipeline
from service.settings import Settings
from service.telemetry.trace import Trace
from tests.conftest import SAMPLES, SMALL_MODELS, golden_class, ready_client

CAT = SAMPLES[3]
FILE = CAT.file.read_bytes()
TEXT = base64.b64encode(FILE).decode()
PNG = {"Content-Type": "image/png"}
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
HEALTH, PREDICT = "/v1/endpoints/17/deployedModels/4", "/v1/endpoints/17/deployedModels/4:predict"


@pytest.fixture(scope="module")
def sagemaker() -> Iterator[TestClient]:
    with ready_client(Settings(models=SMALL_MODELS, cloud="sagemaker")) as client:
        yield client


@pytest.fixture(scope="module")
def vertex() -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIP_HEALTH_ROUTE", HEALTH)
        patch.setenv("AIP_PREDICT_ROUTE", PREDICT)
        with ready_client(Settings(models=SMALL_MODELS)) as client:
            yield client


@pytest.fixture(scope="module")
def native(sagemaker: TestClient) -> dict[str, Any]:
    """The answer of `/predict` for the cat."""
    answer: dict[str, Any] = sagemaker.post("/predict", content=FILE, headers=PNG).json()
    return answer


def test_there_are_no_such_routes_without_a_cloud(client: TestClient) -> None:
    assert client.get("/ping").status_code == 404
    assert client.post("/invocations", content=FILE, headers=PNG).status_code == 404


def test_ping_is_200_when_ready(sagemaker: TestClient) -> None:
    assert sagemaker.get("/ping").status_code == 200


def test_ping_is_503_when_not_ready(tmp_path: Path) -> None:
    with ready_client(Settings(models=tmp_path, cloud="sagemaker")) as client:
        assert client.get("/ping").status_code == 503


@pytest.mark.parametrize("kind", ["image/png", "application/x-image", "application/octet-stream"])
def test_invocation_with_an_image_gets_the_native_answer(
    sagemaker: TestClient, native: dict[str, Any], kind: str
) -> None:
    response = sagemaker.post("/invocations", content=FILE, headers={"Content-Type": kind})
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == native


def test_invocation_with_a_form_gets_the_native_answer(sagemaker: TestClient, native: dict[str, Any]) -> None:
    assert sagemaker.post("/invocations", files={"file": FILE}).json() == native


def test_invocation_with_json_gets_predictions(sagemaker: TestClient, native: dict[str, Any]) -> None:
    answered = sagemaker.post("/invocations", json={"instances": [{"b64": TEXT}]})
    assert answered.json() == {"predictions": [native]}


def test_custom_attributes_choose_and_come_back(sagemaker: TestClient) -> None:
    attributes = "trace=abc, model=functional,top_k=5,note"
    response = sagemaker.post("/invocations", content=FILE, headers={**PNG, ATTRIBUTES: attributes})
    assert response.headers[ATTRIBUTES] == attributes
    assert response.headers["content-type"] == "application/json"
    assert (response.json()["model"], len(response.json()["top"])) == ("functional", 5)
    listed = sagemaker.post(
        "/invocations", json={"instances": [{"b64": TEXT}]}, headers={ATTRIBUTES: "model=functional"}
    )
    assert listed.json()["predictions"][0]["model"] == "functional"
    assert ATTRIBUTES not in sagemaker.post("/invocations", content=FILE, headers=PNG).headers


def test_attributes_that_are_not_valid_are_named(sagemaker: TestClient) -> None:
    response = sagemaker.post("/invocations", content=FILE, headers={**PNG, ATTRIBUTES: "top_k=many"})
    assert (response.status_code, response.json()["invalid_parameters"][0]["name"]) == (422, "top_k")


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/json", 200),
        ("*/*", 200),
        ("text/csv, application/json;q=0.5", 200),
        ("Application/*", 200),
        ("", 200),
        ("text/csv", 406),
    ],
)
def test_only_json_is_answered(sagemaker: TestClient, accept: str, status: int) -> None:
    response = sagemaker.post("/invocations", content=FILE, headers={**PNG, "Accept": accept})
    assert response.status_code == status
    if status != 200:
        assert response.json()["type"] == "urn:cifar10-serving:problem:not-acceptable"


def test_health_route_of_vertex_is_200_when_ready(vertex: TestClient) -> None:
    assert vertex.get(HEALTH).status_code == 200


def test_health_route_of_vertex_is_503_when_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIP_HEALTH_ROUTE", PREDICT)  # Vertex AI's default is the same path for both
    monkeypatch.setenv("AIP_PREDICT_ROUTE", PREDICT)
    with ready_client(Settings(models=tmp_path)) as client:
        assert client.get(PREDICT).status_code == 503
        assert client.post(PREDICT, json={"instances": []}).status_code == 503


@pytest.mark.parametrize(
    "instance",
    [
        pytest.param({"b64": TEXT}, id="b64"),
        pytest.param({"image_bytes": {"b64": TEXT}}, id="image_bytes"),
        pytest.param({"images": CAT.pixels.tolist()}, id="images"),
        pytest.param(CAT.pixels.tolist(), id="pixels"),
    ],
)
def test_vertex_gets_one_prediction_for_each_instance(
    vertex: TestClient, native: dict[str, Any], instance: object
) -> None:
    response = vertex.post(PREDICT, json={"instances": [instance, instance]})
    assert response.status_code == 200
    assert response.json() == {"predictions": [native, native]}
    assert native["class_id"] == golden_class(native["model"], CAT)


def test_parameters_of_vertex_choose(vertex: TestClient) -> None:
    parameters = {"model": "subclassing", "version": 3, "top_k": 2, "unset": None}
    response = vertex.post(PREDICT, json={"instances": [{"b64": TEXT}], "parameters": parameters})
    (prediction,) = response.json()["predictions"]
    assert (prediction["model"], prediction["version"], len(prediction["top"])) == ("subclassing", 3, 2)


def test_no_instances_get_no_predictions(vertex: TestClient) -> None:
    assert vertex.post(PREDICT, json={"instances": [], "parameters": None}).json() == {"predictions": []}


@pytest.mark.parametrize(
    ("document", "status", "words"),
    [
        ([1], 400, "the request is [1]"),
        ({"instance": []}, 400, "did you mean 'instances'"),
        ({"instances": {"b64": TEXT}}, 400, "no list 'instances'"),
        ({"instances": [{"b64": TEXT}], "parameters": [3]}, 400, "'parameters' is [3]"),
        ({"instances": [{"b64": TEXT}], "parameters": {"modle": "x"}}, 422, "did you mean 'model'"),
        ({"instances": [{"b64": TEXT}], "parameters": {"model": "alexnet"}}, 404, "alexnet"),
        ({"instances": [{"b64": TEXT}], "parameters": {"top_k": 11}}, 422, "top_k"),
        ({"instances": [{"b64": "bm8gaW1hZ2U="}]}, 400, "image 0"),
        ({"instances": [{"b64": TEXT}, [[[1, 2, 3]]]]}, 400, "image 1"),
        ({"instances": [[1, 2, 3]]}, 400, "image 0"),
        ({"instances": [[[[1, 2, 3]]]]}, 400, "[1, 1, 1, 3]"),
        ({"instances": [[[[1, 2, 300]]]]}, 400, "0 to 255"),
        ({"instances": [[[[1, 2, 3]], [[1, 2]]]]}, 400, "shape"),
        ({"instances": ["text"]}, 400, "image 0"),
        ({"instances": [None]}, 400, "image 0"),
    ],
)
def test_what_is_wrong_with_a_document_is_said(vertex: TestClient, document: object, status: int, words: str) -> None:
    response = vertex.post(PREDICT, json=document)
    assert (response.status_code, words in response.text) == (status, True), response.text


def test_routes_of_vertex_may_be_those_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIP_HEALTH_ROUTE", "/livez")
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/predict")
    with ready_client(Settings(models=SMALL_MODELS)) as client:
        assert client.get("/livez").json()["ready"]
        assert len(client.post("/predict", json={"instances": [{"b64": TEXT}]}).json()["predictions"]) == 1
        image = client.post("/predict", params={"model": "functional"}, content=FILE, headers=PNG)
        assert image.json()["model"] == "functional"


def test_route_of_tensorflow_serving_keeps_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIP_PREDICT_ROUTE", "/v1/models/functional:predict")
    with ready_client(Settings(models=SMALL_MODELS)) as client:
        response = client.post("/v1/models/functional:predict", json={"instances": [CAT.pixels.tolist()]})
        assert len(response.json()["predictions"][0]) == 10


def test_predictions_are_counted_like_others(one_model: Path) -> None:
    shutil.copytree(SMALL_MODELS / "functional", version_folder(one_model, "functional", 1).parent)
    with ready_client(Settings(models=one_model, cloud="sagemaker")) as client:
        client.post("/invocations", json={"instances": [{"b64": TEXT}] * 3, "parameters": {"model": "sequential"}})
        assert 'cifar10_batch_rows_sum{model="sequential",version="1"} 3.0' in client.get("/metrics").text


def test_document_describes_the_routes(vertex: TestClient) -> None:
    operation = vertex.get("/openapi.json").json()["paths"][PREDICT]["post"]
    assert {"application/json", "image/png", "multipart/form-data"} <= operation["requestBody"]["content"].keys()


class FullPipeline:
    """A pipeline in which the queue of the requested model is full."""

    def __init__(self, admission: Admission) -> None:
        self.admit = partial(Slot, admission)

    async def infer(self, *_: object, **__: object) -> Inferred:
        raise UnavailableError("the queue is full", retry_after_s=1, capacity_limit=Full())


class Full:
    """A capacity limit that is always exhausted."""

    def is_exhausted(self, ahead: int) -> bool:
        return ahead >= 0

    def error(self) -> UnavailableError:
        return UnavailableError("the queue is full", retry_after_s=1, capacity_limit=self)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["image/png", "application/json"])
async def test_full_queue_of_one_model_does_not_reject_requests_for_others(kind: str) -> None:
    admission = Admission(10, 2**20)
    backlog = Backlog(admission, 10)
    pipeline = cast("Pipeline", FullPipeline(admission))
    body = FILE if kind == "image/png" else json.dumps({"instances": [{"b64": TEXT}]}).encode()

    async def rejects_others_after(handler: Handler, target: bytes) -> bool:
        scope = {"headers": [(b"content-type", kind.encode())], "query_string": b""}
        trace = Trace("POST", target.decode(), "1")
        with pytest.raises(UnavailableError):
            await handler(HttpExchange(scope, trace, Ticket(backlog, target), Settings(), body))
        return backlog.rejection(target) is not None

    reader = RequestReader()
    assert not await rejects_others_after(predict_handler(pipeline, reader, is_sagemaker=True), b"/invocations")
    if kind == "image/png":  # the path and query of /predict name the model
        assert await rejects_others_after(native_handler(pipeline), b"/predict")
