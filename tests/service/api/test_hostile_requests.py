"""Randomly damaged requests: every answer is a result or an error of the client, never a failure of the service."""

import json
import random
from typing import Any, Final

import pytest
from fastapi.testclient import TestClient

from tests.conftest import SAMPLES
from tests.garbage import bytes_left_by
from tests.service.api.kserve.requests import (
    GOLDEN,
    HEADER_LENGTH,
    INFER,
    MODEL,
    binary_input,
    elements,
    with_binary,
)

CASES: Final = 150
VALUES: Final[list[Any]] = [
    None, True, -1, 0, 1, 2**31, 2**63, 2**64, 1e308, 0.5, "", "1", "\u0000", [], [[]], [1], {}, {"b64": "aGk="},
]  # fmt: skip
PIXELS: Final = [[[[7, 8, 9]] * 32] * 32]
FILE: Final = {"b64": "iVBORw0KGgo="}
DOCUMENTS: Final[list[tuple[str, Any]]] = [
    (INFER, {
        "id": "1", "parameters": {"timeout": 0, "binary_data_output": False},
        "inputs": [{"name": "images", "shape": [1, 32, 32, 3], "datatype": "UINT8", "parameters": {}, "data": PIXELS}],
        "outputs": [{"name": "probabilities", "parameters": {"classification": 1, "binary_data": False}}],
    }),
    (INFER, {"inputs": [{"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": ["iVBORw0KGgo="]}]}),
    (f"/v1/models/{MODEL}:predict", {"signature_name": "serving_default", "instances": [{"images": PIXELS[0]}]}),
    (f"/v1/models/{MODEL}:predict", {"signature_name": "encoded_images", "inputs": {"image_bytes": [FILE]}}),
    (f"/v1/models/{MODEL}:classify", {"context": {"images": PIXELS[0]}, "examples": [{}, {"images": PIXELS[0]}]}),
]  # fmt: skip


def mutated(value: Any, source: random.Random) -> Any:
    """A copy of a JSON value with one part of it, anywhere, turned into something else or taken away."""
    copy = json.loads(json.dumps(value))
    node, places = copy, list(copy)
    while True:
        place = source.choice(places)
        inner = node[place]
        if isinstance(inner, dict | list) and inner and source.random() < 0.75:
            node, places = inner, list(inner if isinstance(inner, dict) else range(len(inner)))
        elif source.random() < 0.2:
            del node[place]
            return copy
        else:
            node[place] = source.choice(VALUES)
            return copy


@pytest.mark.parametrize(("path", "document"), DOCUMENTS)
def test_json_with_a_wrong_part_is_answered_or_rejected(client: TestClient, path: str, document: Any) -> None:
    source = random.Random(8)  # noqa: S311  # repeatable, and guards nothing
    for _ in range(CASES // 3):
        body = json.dumps(mutated(document, source))
        response = client.post(path, content=body)
        assert response.status_code in {200, 400, 404, 413, 504}, body
        assert response.status_code == 200 or list(response.json()) == ["error"], body


def test_binary_with_wrong_bytes_is_answered_or_rejected(client: TestClient) -> None:
    source = random.Random(9)  # noqa: S311  # as above
    pixels = GOLDEN.images[:1].tobytes()
    body, headers = with_binary({"inputs": [binary_input(len(pixels), rows=1)]}, pixels)
    for _ in range(CASES):
        changed = bytearray(body)
        for _ in range(source.randint(1, 3)):
            changed[source.randrange(180)] = source.randrange(256)
        length = source.choice([headers[HEADER_LENGTH], str(source.randrange(len(body) + 9))])
        sent = bytes(changed[: source.choice([len(body), source.randrange(len(body))])])
        response = client.post(INFER, content=sent, headers={HEADER_LENGTH: length})
        assert response.status_code in {200, 400}, (sent[:200], length)
        assert response.status_code == 200 or list(response.json()) == ["error"]


NO_IMAGE: Final = bytes(2**20)
FILES_HEAD: Final = {"inputs": [binary_input(2**20 + 4, name="image_bytes", datatype="BYTES", shape=[1])]}


@pytest.mark.parametrize(
    ("path", "request_of"),
    [
        ("/predict", {"content": NO_IMAGE, "headers": {"Content-Type": "image/png"}}),
        ("/predict", {"content": SAMPLES[0].file.read_bytes() + NO_IMAGE, "params": {"model": "alexnet"}}),
        ("/predict/batch", {"files": [("files", NO_IMAGE)] * 2}),
        (INFER, {"content": NO_IMAGE}),
        (INFER, dict(zip(("content", "headers"), with_binary(FILES_HEAD, elements(NO_IMAGE)), strict=True))),
        (f"/v1/models/{MODEL}:predict", {"content": NO_IMAGE}),
    ],
)
def test_rejected_request_leaves_nothing_behind(client: TestClient, path: str, request_of: dict[str, Any]) -> None:
    client.post(path, **request_of)
    assert bytes_left_by(lambda: client.post(path, **request_of)) < len(NO_IMAGE) / 2
