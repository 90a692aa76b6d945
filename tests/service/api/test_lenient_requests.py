"""JSON as other languages write it: base64 with line breaks, null for missing, 255.0 for 255, a byte order mark."""

import codecs
import json
from base64 import b64encode, encodebytes, urlsafe_b64encode
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from tests.conftest import SAMPLES
from tests.service.api.kserve.requests import INFER, MODEL

CAT = SAMPLES[3]
PNG = CAT.file.read_bytes()
PIXELS = CAT.pixels.tolist()
PREDICT = f"/v1/models/{MODEL}:predict"
CLASSIFY = f"/v1/models/{MODEL}:classify"
PLAIN = b64encode(PNG).decode()
BASE64 = {
    "lines of 76 with LF": encodebytes(PNG).decode(),
    "lines of 76 with CRLF": encodebytes(PNG).decode().replace("\n", "\r\n"),
    "blanks around it": f" \t{PLAIN}\r\n",
    "no padding": b64encode(PNG + bytes(3 - len(PNG) % 3 + 1)).decode().rstrip("="),
    "one sign of padding missing": b64encode(PNG + bytes(3 - len(PNG) % 3 + 1)).decode()[:-1],
    "alphabet for URLs": urlsafe_b64encode(PNG).decode(),
    "alphabet for URLs, no padding, in lines": "\n".join(urlsafe_b64encode(PNG).decode().rstrip("=").partition("A")),
}
IMAGES: dict[str, Any] = {"name": "images", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": [PIXELS]}


def classes(answer: Any) -> int:
    """The class in an answer of whichever protocol."""
    if "result" in answer:
        return int(np.argmax([float(score) for _, score in answer["result"][0]]))
    row = answer["predictions"][0] if "predictions" in answer else answer["outputs"][0]["data"]
    return int(np.argmax(row))


@pytest.fixture(scope="module")
def cat_class(client: TestClient) -> int:
    return classes(client.post(PREDICT, json={"instances": [PIXELS]}).json())


@pytest.mark.parametrize("text", BASE64.values(), ids=BASE64)
def test_base64_is_taken_as_other_languages_write_it(client: TestClient, cat_class: int, text: str) -> None:
    v1 = {"signature_name": "encoded_images", "instances": [{"b64": text}]}
    listed = {"signature_name": "encoded_images", "examples": [{"image_bytes": {"b64": text}}]}
    v2 = {"inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [text]}]}
    for path, document in ((PREDICT, v1), (CLASSIFY, listed), (INFER, v2)):
        response = client.post(path, json=document)
        assert response.status_code == 200, response.text
        assert classes(response.json()) == cat_class


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"data:image/png;base64,{PLAIN}", "a data URL"),
        (PLAIN[:-3] + "*", "can't be decoded"),
        (PLAIN + "AA=A", "can't be decoded"),
        ("QUFBQ", "can't be decoded"),
        ("ünï", "can't be decoded"),
        (5, "is 5"),
        (None, "is None"),
        ("", "0 bytes"),
    ],
)
def test_what_is_no_base64_is_rejected_in_words(client: TestClient, text: Any, words: str) -> None:
    v1 = {"signature_name": "encoded_images", "instances": [{"b64": text}]}
    v2 = {"inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [text]}]}
    for path, document in ((PREDICT, v1), (INFER, v2)):
        response = client.post(path, json=document)
        assert response.status_code == 400
        assert words in response.json()["error"]


@pytest.mark.parametrize(
    ("path", "document"),
    [
        (INFER, {"inputs": [IMAGES], "id": None, "parameters": None, "outputs": None}),
        (INFER, {"inputs": [IMAGES | {"parameters": None}], "outputs": []}),
        (INFER, {"inputs": [IMAGES], "outputs": [{"name": "probabilities", "parameters": None}]}),
        (
            INFER,
            {
                "inputs": [IMAGES | {"parameters": {"binary_data_size": None, "shared_memory_region": None}}],
                "parameters": {"binary_data_output": None, "timeout": None},
                "outputs": [{"name": "probabilities", "parameters": {"classification": None, "binary_data": None}}],
            },
        ),
        (PREDICT, {"instances": [PIXELS], "inputs": None, "signature_name": None}),
        (CLASSIFY, {"examples": [{"images": PIXELS}], "context": None, "signature_name": None}),
    ],
)
def test_null_is_as_good_as_nothing(client: TestClient, cat_class: int, path: str, document: Any) -> None:
    response = client.post(path, json=document)
    assert response.status_code == 200, response.text
    assert classes(response.json()) == cat_class
    if path == INFER:
        assert "id" not in response.json()


@pytest.mark.parametrize("path", [INFER, PREDICT])
def test_whole_numbers_may_have_a_fraction_of_zero(client: TestClient, cat_class: int, path: str) -> None:
    floats = CAT.pixels.astype(float)
    inputs = [IMAGES | {"shape": [1.0, 32.0, 32.0, 3.0], "data": [floats.tolist()]}]
    document = {"inputs": inputs} if path == INFER else {"instances": [floats.tolist()]}
    assert classes(client.post(path, json=document).json()) == cat_class
    mixed = json.dumps(document).replace("100.0", "1e2")
    assert classes(client.post(path, content=mixed).json()) == cat_class


@pytest.mark.parametrize("wrong", ["0.5", "-1.0", "256.0", "1e300", '"7"', "null"])
def test_other_numbers_are_rejected(client: TestClient, wrong: str) -> None:
    data = json.dumps([0] * 3071 + ["wrong"]).replace('"wrong"', wrong)
    document = json.dumps({"inputs": [IMAGES | {"data": "here"}]}).replace('"here"', data)
    response = client.post(INFER, content=document)
    assert response.status_code == 400
    assert "whole numbers from 0 to 255" in response.json()["error"]


def test_byte_order_mark_is_passed_over(client: TestClient, cat_class: int) -> None:
    for path, document in ((INFER, {"inputs": [IMAGES]}), (PREDICT, {"instances": [PIXELS]})):
        text = json.dumps(document)
        assert classes(client.post(path, content=codecs.BOM_UTF8 + text.encode()).json()) == cat_class
        wide = client.post(path, content=text.encode("utf-16"))
        assert wide.status_code == 400
        assert "UTF-16" in wide.json()["error"]


def test_binary_form_takes_them_too(client: TestClient, cat_class: int) -> None:
    pixels = CAT.pixels.tobytes()
    given = {key: value for key, value in IMAGES.items() if key != "data"}
    inputs = [given | {"data": None, "parameters": {"binary_data_size": float(len(pixels))}}]
    head = codecs.BOM_UTF8 + json.dumps({"inputs": inputs, "parameters": None}).encode()
    response = client.post(INFER, content=head + pixels, headers={"Inference-Header-Content-Length": str(len(head))})
    assert classes(response.json()) == cat_class


@pytest.mark.parametrize(
    ("path", "document", "words"),
    [
        (INFER, {"inputs": [IMAGES | {"name": "image"}]}, "did you mean 'images'?"),
        (INFER, {"inputs": [IMAGES], "outputs": [{"name": "probabilites"}]}, "did you mean 'probabilities'?"),
        (PREDICT, {"instances": [PIXELS], "signature_name": "serving_defualt"}, "did you mean 'serving_default'?"),
        (PREDICT, {"instance": [PIXELS]}, "'instance' (did you mean 'instances'?)"),
        (PREDICT, {"instances": [{"image": PIXELS}]}, "did you mean 'images'?"),
        (CLASSIFY, {"example": [{"images": PIXELS}]}, "did you mean 'examples'?"),
        ("/v2/models/sequentail/infer", {"inputs": [IMAGES]}, "did you mean 'sequential'?"),
        ("/v1/models/Sequential:predict", {"instances": [PIXELS]}, "did you mean 'sequential'?"),
    ],
)
def test_misspelt_name_brings_the_close_one(client: TestClient, path: str, document: Any, words: str) -> None:
    response = client.post(path, json=document)
    assert response.status_code in (400, 404)
    assert words in response.json()["error"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/predict?modle=vgg16", "did you mean 'model'?"),
        ("/predict?topk=3", "did you mean 'top_k'?"),
        ("/compare?modles=vgg16", "did you mean 'model'?"),
        ("/explain?stryde=4", "did you mean 'stride'?"),
        ("/predict?model=sequentail", "did you mean 'sequential'?"),
        ("/predct", "did you mean /predict?"),
    ],
)
def test_misspelt_parameter_brings_the_close_one(client: TestClient, path: str, words: str) -> None:
    problem = client.post(path, files={"file": ("cat.png", PNG, "image/png")}).json()
    assert words in f"{problem['detail']} {problem.get('remedy')}"


@pytest.mark.parametrize(
    ("path", "field", "right"), [("/predict", "flie", "file"), ("/predict/batch", "file", "files")]
)
def test_misspelt_field_is_to_be_renamed(client: TestClient, path: str, field: str, right: str) -> None:
    problem = client.post(path, files={field: ("cat.png", PNG, "image/png")}).json()
    assert problem["remedy"] == f"rename the field '{field}' to '{right}'"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[
            ("GET", path)
            for path in ("/", "/docs", "/docs/", "/openapi.json", "/livez", "/metrics", "/nope", "/v2/nope")
        ],
        *[
            ("GET", path)
            for path in ("/static-offline-docs/swagger-ui.css", "/models/sequential/versions/1/plots/nope")
        ],
        *[("HEAD", "/models"), ("POST", "/livez"), ("POST", "/predict"), ("POST", "/compare"), ("POST", INFER)],
        *[("POST", PREDICT), ("DELETE", "/predict"), ("GET", "/models/sequential/versions/1/plots/learning_curves")],
    ],
)
def test_no_answer_lets_a_browser_guess_or_tell(client: TestClient, method: str, path: str) -> None:
    response = client.request(method, path, follow_redirects=False)
    assert response.headers.get_list("x-content-type-options") == ["nosniff"]
    assert response.headers.get_list("referrer-policy") == ["no-referrer"]
    assert response.headers["x-request-id"]


@pytest.mark.parametrize(("path", "form"), [("/models", "type"), ("/v2", "error"), ("/v1/models/sequential", "error")])
def test_unexpected_failure_has_the_headers_and_the_form_of_its_protocol(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str, form: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("unexpected")

    for name in ("status", "model_status"):
        monkeypatch.setattr(f"service.registry.repository.ModelRepository.{name}", fails)
    monkeypatch.setattr("service.api.kserve.routes.extensions", fails)
    response = TestClient(client.app, raise_server_exceptions=False).get(path)
    assert response.status_code == 500
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-request-id"]
    assert form in response.json()
    assert "Traceback" not in response.text
