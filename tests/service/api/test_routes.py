"""TensorFlow Serving's requests in the forms of its documentation, and invalid ones."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from cifar10_serving.artifacts.layout import version_folder
from cifar10_serving.runtimes.golden import read_golden
from service.settings import Settings
from tests.conftest import MODELS, SAMPLES, golden_class, newest_version, ready_client
from tests.service.api.kserve.requests import image_input
from tests.version_copies import publish_copy, write_rollout
from training.cifar10 import CLASS_NAMES

MODEL = "sequential"
VERSION = newest_version(MODEL)
BASE = f"/v1/models/{MODEL}"
GOLDEN = read_golden(version_folder(MODELS, MODEL, VERSION) / "golden.npz")
IMAGES = GOLDEN.images[:2].tolist()
FILES = [{"b64": b64encode(sample.file.read_bytes()).decode()} for sample in SAMPLES[:2]]
FEATURES = GOLDEN.images[:2].reshape(2, -1).tolist()


def error_of(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    document = response.json()
    assert list(document) == ["error"]
    return str(document["error"])


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ({"instances": IMAGES}, "predictions"),
        ({"signature_name": "serving_default", "instances": IMAGES}, "predictions"),
        ({"signature_name": "", "instances": [{"images": image} for image in IMAGES]}, "predictions"),
        ({"inputs": IMAGES}, "outputs"),
        ({"inputs": {"images": IMAGES}}, "outputs"),
    ],
)
@pytest.mark.parametrize("path", [BASE, f"{BASE}/versions/{VERSION}"])
def test_pixels_are_predicted_in_row_and_column_form(client: TestClient, path: str, document: Any, key: str) -> None:
    answer = client.post(f"{path}:predict", json=document).json()
    assert list(answer) == [key]
    assert np.abs(np.asarray(answer[key]) - GOLDEN.probabilities[:2]).max() < 1e-5


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"instances": FILES}, "predictions"),
        ({"instances": [{"image_bytes": file} for file in FILES]}, "predictions"),
        ({"inputs": FILES}, "outputs"),
        ({"inputs": {"image_bytes": FILES}}, "outputs"),
    ],
)
def test_files_are_predicted_by_the_signature_for_them(client: TestClient, values: Any, key: str) -> None:
    answer = client.post(f"{BASE}:predict", json={"signature_name": "encoded_images", **values}).json()
    found = np.asarray(answer[key]).argmax(axis=1).tolist()
    assert found == [golden_class(MODEL, sample) for sample in SAMPLES[:2]]


@pytest.mark.parametrize(
    "document",
    [
        {"examples": [{"images": features} for features in FEATURES]},
        {"examples": [{"images": image} for image in IMAGES]},
        {"context": {"images": FEATURES[0]}, "examples": [{}, {"images": FEATURES[1]}]},
    ],
)
def test_classify_gives_labels_with_scores(client: TestClient, document: Any) -> None:
    result = client.post(f"{BASE}:classify", json=document).json()["result"]
    assert [[label for label, _ in row] for row in result] == [list(CLASS_NAMES)] * 2
    scores = np.asarray([[score for _, score in row] for row in result])
    assert np.abs(scores - GOLDEN.probabilities[:2]).max() < 1e-5


def test_files_are_classified_too(client: TestClient) -> None:
    document = {"signature_name": "encoded_images", "examples": [{"image_bytes": file} for file in FILES]}
    for row, sample in zip(client.post(f"{BASE}:classify", json=document).json()["result"], SAMPLES[:2], strict=True):
        assert max(row, key=lambda pair: float(pair[1]))[0] == CLASS_NAMES[golden_class(MODEL, sample)]


@pytest.mark.parametrize("path", ["", f"/versions/{VERSION}"])
def test_status_is_of_every_version_or_of_one(client: TestClient, path: str) -> None:
    states = client.get(f"{BASE}{path}").json()["model_version_status"]
    assert states[0] == {
        "version": str(VERSION),
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    assert [state["state"] for state in states[1:]] == ([] if path else ["END"] * (VERSION - 1))


@pytest.mark.parametrize("path", ["", f"/versions/{VERSION}"])
def test_metadata_is_the_artifacts_own(client: TestClient, path: str) -> None:
    answer = client.get(f"{BASE}{path}/metadata").json()
    assert answer["model_spec"] == {"name": MODEL, "signature_name": "", "version": str(VERSION)}
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["images"] == {
        "dtype": "DT_UINT8",
        "tensor_shape": {
            "dim": [{"size": str(size), "name": ""} for size in (-1, 32, 32, 3)],
            "unknown_rank": False,
        },
        "name": "serving_default_images:0",
    }


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "the request is []"),
        ({}, "neither 'instances' nor 'inputs'"),
        ({"instances": IMAGES, "inputs": IMAGES}, "both 'instances' and 'inputs'"),
        ({"instances": IMAGES, "signature_name": "logits"}, "no signature 'logits'"),
        ({"instances": IMAGES, "signature_name": 3}, "no signature 3"),
        ({"instances": IMAGES, "signature_name": []}, "no signature []"),
        ({"instances": {"images": IMAGES}}, "'instances' is not a list"),
        ({"instances": [{"pixels": IMAGES[0]}]}, "['pixels']"),
        ({"instances": [{"images": IMAGES[0], "k": 1}]}, "['images', 'k']"),
        ({"instances": [{"images": IMAGES[0]}, IMAGES[0][0]]}, "don't have the shape"),
        ({"instances": IMAGES[0]}, "don't have the shape [32, 32, 32, 3]"),
        ({"instances": [[[[0.5] * 3] * 32] * 32]}, "'float' object"),
        ({"instances": FILES}, "don't have the shape"),
        ({"inputs": {"images": IMAGES, "x": 1}}, "['images', 'x']"),
        ({"inputs": 3}, "are not a list"),
        ({"signature_name": "encoded_images", "instances": IMAGES}, "image 0 is [["),
        ({"signature_name": "encoded_images", "instances": [{"b64": 3}]}, "element of input"),
        ({"signature_name": "encoded_images", "instances": [{"b64": "*"}]}, "element of input"),
        ({"signature_name": "encoded_images", "instances": [FILES[0], {"b64": "aGk="}]}, "image 1: the 2 bytes"),
        ({"signature_name": "encoded_images", "inputs": FILES[0]}, "['b64']"),
    ],
)
def test_wrong_document_is_rejected_in_words(client: TestClient, document: Any, words: str) -> None:
    assert words in error_of(client.post(f"{BASE}:predict", json=document), 400)


@pytest.mark.parametrize("document", [{}, {"examples": 3}, {"examples": [3]}, {"examples": [{}], "context": []}])
def test_wrong_examples_are_rejected_in_words(client: TestClient, document: Any) -> None:
    assert "examples" in error_of(client.post(f"{BASE}:classify", json=document), 400)


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/v1", 404, "/v1"),
        ("GET", "/v1/models/alexnet", 404, "one of"),
        ("GET", f"{BASE}/versions/999", 404, "no version 999"),
        ("GET", f"{BASE}/versions/stable", 400, "has no version"),
        ("GET", f"{BASE}/labels/1", 400, "has no version or label"),
        ("GET", f"{BASE}/labels/stable", 404, "no version stable"),
        ("GET", f"{BASE}/labels/stable/metadata", 404, "labelled 'stable'"),
        ("POST", f"{BASE}/versions/999:predict", 404, "no version 999"),
        ("POST", f"{BASE}:regress", 400, "no signature for regression"),
        ("GET", f"{BASE}:predict", 404, "sequential:predict"),
        ("POST", f"{BASE}:explain", 405, "Expected: the method GET"),
    ],
)
def test_errors_are_of_the_protocols_form(client: TestClient, method: str, path: str, status: int, words: str) -> None:
    body = json.dumps({"instances": IMAGES}) if method == "POST" else None
    assert words in error_of(client.request(method, path, content=body), status)


def test_body_that_is_no_json_is_rejected(client: TestClient) -> None:
    assert "not JSON" in error_of(client.post(f"{BASE}:predict", content=b'{"instances": [NaN]}'), 400)


def test_label_names_a_version(tmp_path: Path) -> None:
    for version in (1, 2):
        publish_copy(tmp_path, version, source=VERSION)
    write_rollout(tmp_path, policy=[1, 2], labels={"stable": 1})
    with ready_client(Settings(models=tmp_path)) as client:
        state = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        assert client.get(f"{BASE}/labels/stable").json() == {"model_version_status": [state]}
        assert client.get(f"{BASE}/labels/stable/metadata").json()["model_spec"]["version"] == "1"
        answer = client.post(f"{BASE}/labels/stable:predict", json={"instances": IMAGES}).json()
        assert np.abs(np.asarray(answer["predictions"]) - GOLDEN.probabilities[:2]).max() < 1e-5
        described = client.post(f"/v2/models/{MODEL}/versions/stable/infer", json={"inputs": [image_input()]}).json()
        assert described["model_version"] == "1"
