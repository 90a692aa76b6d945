"""The protocol over REST, request by request; `tests/e2e/test_protocol_clients.py` uses real clients."""

import gzip
import json
import zlib
from base64 import b64encode
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from cifar10_serving import __version__
from tests.conftest import SAMPLES, golden_class, newest_version
from tests.service.api.kserve.requests import (
    GOLDEN,
    HEADER_LENGTH,
    INFER,
    MODEL,
    assert_golden,
    binary_input,
    elements,
    image_input,
    with_binary,
)
from training.cifar10 import CLASS_NAMES

FILES = [sample.file.read_bytes() for sample in SAMPLES[:2]]
PIXELS = GOLDEN.images[:2].tobytes()


def files_input(size: int, shape: tuple[int] | list[int] = (1,)) -> dict[str, Any]:
    return binary_input(size, name="image_bytes", datatype="BYTES", shape=shape)


def error_of(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    document = response.json()
    assert list(document) == ["error"]
    return str(document["error"])


def test_server_tells_what_it_is_and_which_extensions_it_speaks(client: TestClient) -> None:
    assert client.get("/v2").json() == {
        "name": "cifar10-serving",
        "version": __version__,
        "extensions": ["binary_tensor_data", "classification", "model_configuration", "statistics"],
    }
    assert client.get("/v2/").status_code == 200
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}


@pytest.mark.parametrize("path", [f"/v2/models/{MODEL}", f"/v2/models/{MODEL}/versions/{newest_version(MODEL)}"])
def test_model_tells_its_tensors(client: TestClient, path: str) -> None:
    assert client.get(path).json() == {
        "name": MODEL,
        "versions": [str(newest_version(MODEL))],
        "platform": "tensorflow_savedmodel",
        "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, 32, 32, 3]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}],
    }
    assert client.get(f"{path}/ready").json() == {"name": MODEL, "ready": True}


@pytest.mark.parametrize(
    "data", [GOLDEN.images[:2].tolist(), GOLDEN.images[:2].ravel().tolist()], ids=["nested", "flat"]
)
def test_values_are_taken_flat_and_nested(client: TestClient, data: Any) -> None:
    answer = client.post(INFER, json={"id": "42", "parameters": {"x": 1}, "inputs": [image_input(data=data)]}).json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("42", MODEL, str(newest_version(MODEL)))
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [2, 10])
    assert_golden(output["data"])


def test_version_in_the_path_answers(client: TestClient) -> None:
    path = f"/v2/models/{MODEL}/versions/{newest_version(MODEL)}/infer"
    answer = client.post(path, json={"inputs": [image_input()]}).json()
    assert "id" not in answer
    assert_golden(answer["outputs"][0]["data"])


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_files_are_taken_as_base64_and_in_binary(client: TestClient, shape: list[int]) -> None:
    texts = [b64encode(content).decode() for content in FILES]
    data: Any = texts if len(shape) == 1 else [[text] for text in texts]
    given = {"name": "image_bytes", "datatype": "BYTES", "shape": shape}
    outputs = [{"name": "probabilities", "parameters": {"classification": 1}}]
    as_json = client.post(INFER, json={"inputs": [given | {"data": data}], "outputs": outputs}).json()
    content = elements(*FILES)
    document = {"inputs": [given | {"parameters": {"binary_data_size": len(content)}}], "outputs": outputs}
    body, headers = with_binary(document, content)
    as_binary = client.post(INFER, content=body, headers=headers).json()
    assert as_json == as_binary
    found = [int(text.split(":")[1]) for text in as_json["outputs"][0]["data"]]
    assert found == [golden_class(MODEL, sample) for sample in SAMPLES[:2]]


@pytest.mark.parametrize("ask", [{"classification": 3}, {"classification": 99}])
def test_classification_names_the_best_classes_as_triton_does(client: TestClient, ask: dict[str, int]) -> None:
    outputs = [{"name": "probabilities", "parameters": ask}]
    (output,) = client.post(INFER, json={"inputs": [image_input()], "outputs": outputs}).json()["outputs"]
    classes = min(10, ask["classification"])
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, classes])
    best = np.argsort(-GOLDEN.probabilities[0])[:classes]
    for text, index in zip(output["data"], best, strict=False):
        value, number, label = text.split(":")
        assert (int(number), label) == (index, CLASS_NAMES[index])
        assert float(value) == pytest.approx(GOLDEN.probabilities[0][index], abs=1e-5)


@pytest.mark.parametrize(
    ("parameters", "output", "is_binary"),
    [
        ({}, {"binary_data": True}, True),
        ({"binary_data_output": True}, {}, True),
        ({"binary_data_output": True}, {"binary_data": False}, False),
        ({"binary_data_output": True}, None, True),
    ],
)
def test_output_goes_in_binary_where_it_is_asked_for(
    client: TestClient, parameters: dict[str, Any], output: dict[str, Any] | None, is_binary: bool
) -> None:
    document: dict[str, Any] = {"parameters": parameters, "inputs": [binary_input(len(PIXELS))]}
    if output is not None:
        document["outputs"] = [{"name": "probabilities", "parameters": output}]
    body, headers = with_binary(document, PIXELS)
    response = client.post(INFER, content=body, headers=headers)
    assert (HEADER_LENGTH in response.headers) == is_binary
    if not is_binary:
        assert_golden(response.json()["outputs"][0]["data"])
        return
    length = int(response.headers[HEADER_LENGTH])
    (head,) = json.loads(response.content[:length])["outputs"]
    content = response.content[length:]
    assert head["parameters"]["binary_data_size"] == len(content) == 2 * 10 * 4
    assert_golden(np.frombuffer(content, "<f4"))


def test_body_of_pixels_alone_is_as_many_images_as_it_makes(client: TestClient) -> None:
    answer = client.post(INFER, content=PIXELS, headers={HEADER_LENGTH: "0"}).json()
    assert_golden(answer["outputs"][0]["data"])


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_body_is_read(client: TestClient, encoding: str, compress: Any) -> None:
    body = compress(json.dumps({"inputs": [image_input()]}).encode())
    assert client.post(INFER, content=body, headers={"Content-Encoding": encoding}).status_code == 200
    error = error_of(client.post(INFER, content=body[:-9], headers={"Content-Encoding": encoding}), 400)
    assert "truncated" in error
    assert "decompressed" in error_of(
        client.post(INFER, content=compress(bytes(21_000_000)), headers={"Content-Encoding": encoding}), 413
    )
    assert error_of(client.post(INFER, content=b"no", headers={"Content-Encoding": encoding}), 400)
    assert "'br'" in error_of(client.post(INFER, content=b"", headers={"Content-Encoding": "br"}), 415)


def test_no_rows_are_answered_with_none(client: TestClient) -> None:
    (output,) = client.post(INFER, json={"inputs": [image_input(0)]}).json()["outputs"]
    assert (output["shape"], output["data"]) == ([0, 10], [])


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "should be an object"),
        ({}, "inputs: Field required"),
        ({"inputs": []}, "0 inputs"),
        ({"inputs": [image_input(), image_input()]}, "2 inputs"),
        ({"inputs": [{"name": "images"}]}, "inputs.0.shape"),
        ({"inputs": [image_input()], "id": 42}, "id: "),
        ({"inputs": [image_input(name="pixels")]}, "no input 'pixels'"),
        ({"inputs": [image_input(name="image_bytes")]}, "datatype 'UINT8'"),
        ({"inputs": [image_input(datatype="FP32")]}, "datatype 'FP32'"),
        ({"inputs": [image_input(shape=[2, 3072])]}, "shape [2, 3072]"),
        ({"inputs": [image_input(shape=[-1, 32, 32, 3])]}, "greater than or equal to 0"),
        ({"inputs": [image_input(shape=[2**64, 32, 32, 3])]}, "inputs.0.shape.0"),
        ({"inputs": [image_input(shape=[2**62, 32, 32, 3])]}, "don't have the shape"),
        ({"inputs": [image_input(shape=[3, 32, 32, 3])]}, "don't have the shape"),
        ({"inputs": [image_input(shape=[])]}, "shape []"),
        ({"inputs": [image_input(shape=[True, 32, 32, 3])]}, "inputs.0.shape.0"),
        ({"inputs": [image_input(data=None)]}, "are not a list"),
        ({"inputs": [image_input(data={"a": 1})]}, "are not a list"),
        ({"inputs": [image_input(data=[256] * 6144)]}, "range(0, 256)"),
        ({"inputs": [image_input(data=[-1] * 6144)]}, "range(0, 256)"),
        ({"inputs": [image_input(data=[0.5] * 6144)]}, "'float' object"),
        ({"inputs": [image_input(data=["1"] * 6144)]}, "'str' object"),
        ({"inputs": [image_input(data=[[[[0] * 3] * 32] * 32, [[[0] * 2] * 32] * 32])]}, "at depth 3"),
        ({"inputs": [image_input(data=[[0] * 3072] * 2)]}, "at depth 1"),
        ({"inputs": [image_input(parameters={"binary_data_size": 6144})]}, "0 bytes follow"),
        ({"inputs": [image_input()], "outputs": [{"name": "logits"}]}, "no output 'logits'"),
        ({"inputs": [image_input()], "outputs": [{"name": "probabilities"}] * 2}, "requested 2 times"),
        (
            {"inputs": [image_input()], "outputs": [{"name": "probabilities", "parameters": {"classification": 0}}]},
            "classification = 0",
        ),
        (
            {"inputs": [image_input()], "outputs": [{"name": "probabilities", "parameters": {"binary_data": 1}}]},
            "binary_data = 1",
        ),
        ({"inputs": [image_input()], "parameters": {"timeout": "soon"}}, "timeout = 'soon'"),
        ({"inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": ["*"]}]}, "element of input"),
        ({"inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [1]}]}, "element of input"),
        ({"inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": ["aGk="]}]}, "image 0: the 2"),
    ],
)  # fmt: skip
def test_wrong_document_is_rejected_in_words(client: TestClient, document: Any, words: str) -> None:
    assert words in error_of(client.post(INFER, json=document), 400)


def test_shared_memory_is_rejected_as_unsupported(client: TestClient) -> None:
    elsewhere = {"shared_memory_region": "a"}
    for document in (
        {"inputs": [image_input(parameters=elsewhere)]},
        {"inputs": [image_input()], "outputs": [{"name": "probabilities", "parameters": elsewhere}]},
    ):
        assert "shared memory" in error_of(client.post(INFER, json=document), 501)


@pytest.mark.parametrize(
    ("document", "content", "words"),
    [
        ({"inputs": [binary_input(6144)]}, PIXELS[:-1], "6,143 bytes follow"),
        ({"inputs": [binary_input(6144)]}, PIXELS + b"x", "6,145 bytes follow"),
        ({"inputs": [binary_input(6143)]}, PIXELS[:-1], "6,143 bytes of data"),
        ({"inputs": [binary_input(-6144)]}, PIXELS, "binary_data_size = -6144"),
        ({"inputs": [binary_input(6144, rows=2**40)]}, PIXELS, "6,144 bytes of data"),
        ({"inputs": [binary_input(6144, data=[1])]}, PIXELS, "both 'data' and"),
        ({"inputs": [image_input()]}, b"x", "no binary_data_size"),
        ({"inputs": [files_input(2)]}, b"\0\0", "2 bytes of data"),
        ({"inputs": [files_input(8, shape=[2**62])]}, b"\0" * 8, "8 bytes of data"),
        ({"inputs": [files_input(4)]}, b"\xff" * 4, "at most the 0 bytes that are left"),
        ({"inputs": [files_input(7, shape=[1])]}, b"\0" * 7, "more than 1 elements"),
        ({"inputs": [files_input(8, shape=[2])]}, b"\1" + b"\0" * 7, "in the length of element 1"),
        ({"inputs": [files_input(8, shape=[2])]}, b"\4" + b"\0" * 7, "1 elements"),
    ],
)  # fmt: skip
def test_wrong_binary_is_rejected_in_words(client: TestClient, document: Any, content: bytes, words: str) -> None:
    body, headers = with_binary(document, content)
    assert words in error_of(client.post(INFER, content=body, headers=headers), 400)


@pytest.mark.parametrize("length", ["", "-1", "1e3", "99999", "9" * 5000])
def test_length_of_the_json_past_the_body_is_rejected(client: TestClient, length: str) -> None:
    error = error_of(client.post(INFER, content=b"{}", headers={HEADER_LENGTH: length}), 400)
    assert "at most the 2 bytes" in error


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"inputs": NaN}'])
def test_body_that_is_no_json_is_rejected(client: TestClient, body: bytes) -> None:
    assert "not JSON" in error_of(client.post(INFER, content=body), 400)


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/v2/models/alexnet", 404, "one of"),
        ("GET", f"/v2/models/{MODEL}/versions/999", 404, "no version 999"),
        ("GET", f"/v2/models/{MODEL}/versions/-1/ready", 400, "whole number from 1"),
        ("POST", "/v2/models/alexnet/infer", 404, "alexnet"),
        ("GET", INFER, 405, "GET"),
        ("GET", f"/v2/models/{MODEL}/nope", 404, "nope"),
        ("POST", "/v2/repository/index", 501, "CIFAR10_ADMIN_TOKEN is not set"),
        ("POST", f"/v2/models/{MODEL}/generate", 501, "generate extension"),
        ("GET", "/v2/models/alexnet/config", 404, "alexnet"),
        ("GET", f"/v2/models/{MODEL}/versions/999/stats", 404, "no version 999"),
    ],
)
def test_errors_are_of_the_protocols_form(client: TestClient, method: str, path: str, status: int, words: str) -> None:
    body = json.dumps({"inputs": [image_input()]}) if method == "POST" else None
    assert words in error_of(client.request(method, path, content=body), status)


def test_limits_and_deadlines_hold(client: TestClient) -> None:
    rows = {"inputs": [image_input(513, data=[0] * 513 * 3072)]}
    assert "at most 512" in error_of(client.post(INFER, json=rows), 413)
    empty = elements(*[b""] * 513)
    body, headers = with_binary({"inputs": [files_input(len(empty), shape=[513])]}, empty)
    assert "at most 512" in error_of(client.post(INFER, content=body, headers=headers), 413)
    late = {"inputs": [image_input()], "parameters": {"timeout": 1}}
    assert "no answer within 1e-06 s" in error_of(client.post(INFER, json=late), 504)
    response = client.post(INFER, json={"inputs": [image_input()]}, headers={"X-Request-Timeout-Ms": "0"})
    assert "X-Request-Timeout-Ms" in error_of(response, 422)
    metrics = client.get("/metrics").text
    assert f'cifar10_expired_total{{model="{MODEL}"' in metrics


def test_document_lists_the_routes(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert "/v2/models/{model}/infer" in document["paths"]
