import base64
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from cifar10_serving.schemas import Comparison
from service.images.encoded import EncodedImage
from tests.conftest import PUBLISHED, SAMPLES, golden_class, newest_version
from tests.service.api.test_native import problem_of

CAT = SAMPLES[3]
PNG = {"Content-Type": "image/png"}


def compare(client: TestClient, content: bytes, **parameters: Any) -> Comparison:
    response = client.post("/compare", files={"file": ("cat.png", content, "image/png")}, params=parameters)
    assert response.status_code == 200, response.text
    return Comparison.model_validate_json(response.content)


def test_every_ready_model_answers_in_the_catalogs_order(client: TestClient) -> None:
    comparison = compare(client, CAT.file.read_bytes(), top_k=10)
    assert [answer.model for answer in comparison.answers] == list(PUBLISHED)
    for answer in comparison.answers:
        assert answer.prediction is not None
        assert answer.timings is not None
        assert answer.version == answer.prediction.version == newest_version(answer.model)
        assert answer.prediction.class_id == golden_class(answer.model, CAT)
        assert len(answer.prediction.top) == 10
        assert answer.timings.decode_ms == comparison.decode_ms > 0
        assert answer.timings.compute_ms > 0
    labels = [answer.prediction.label for answer in comparison.answers if answer.prediction]
    assert comparison.agreement.of == len(PUBLISHED)
    assert labels.count(str(comparison.agreement.label)) == comparison.agreement.models


def test_the_picture_comes_back_as_the_models_saw_it(client: TestClient) -> None:
    photo = BytesIO()
    Image.fromarray(CAT.pixels).resize((640, 360)).save(photo, "JPEG")
    kind, _, data = compare(client, photo.getvalue(), model="sequential").model_input.partition(",")
    assert kind == "data:image/png;base64"
    seen = EncodedImage(base64.b64decode(data), (32, 32, 3), max_pixels=1024).decode()
    assert np.array_equal(seen, EncodedImage(photo.getvalue(), (32, 32, 3), max_pixels=10**6).decode())


def test_only_those_asked_for_answer_in_that_order(client: TestClient) -> None:
    newest = newest_version("sequential")
    comparison = compare(client, CAT.file.read_bytes(), model=["functional", f"sequential/{newest}", "functional"])
    assert [(answer.model, answer.version) for answer in comparison.answers] == [
        ("functional", newest_version("functional")),
        ("sequential", newest),
    ]


def test_raw_body_gives_the_same_answers(client: TestClient) -> None:
    content = CAT.file.read_bytes()
    by_body = Comparison.model_validate_json(client.post("/compare", content=content, headers=PNG).content)
    assert [answer.prediction for answer in by_body.answers] == [
        answer.prediction for answer in compare(client, content).answers
    ]


@pytest.mark.parametrize(
    ("parameters", "status", "words"),
    [
        ({"model": "alexnet"}, 404, "alexnet"),
        ({"model": "sequential/999"}, 404, "999"),
        ({"model": "sequential/0"}, 422, "NAME/VERSION"),
        ({"top_k": 0}, 422, "top_k"),
        ({"version": 1}, 422, "version"),
    ],
)
def test_what_cannot_be_compared_is_named(
    client: TestClient, parameters: dict[str, Any], status: int, words: str
) -> None:
    response = client.post("/compare", content=CAT.file.read_bytes(), headers=PNG, params=parameters)
    assert words in problem_of(response, status).detail


def test_a_picture_that_cannot_be_decoded_is_one_error_not_one_a_model(client: TestClient) -> None:
    problem_of(client.post("/compare", content=b"hello", headers=PNG), 400)
    problem_of(client.post("/compare", content=b"hello", headers={"Content-Type": "text/plain"}), 415)


def test_models_that_have_no_time_left_say_so_in_their_own_entry(client: TestClient) -> None:
    headers = PNG | {"X-Request-Timeout-Ms": "1"}
    response = client.post("/compare", content=CAT.file.read_bytes(), headers=headers)
    if response.status_code == 200:
        comparison = Comparison.model_validate_json(response.content)
        late = [answer for answer in comparison.answers if answer.prediction is None]
        assert late
        assert {answer.error.status for answer in late if answer.error} == {504}
        assert comparison.agreement.of == len(comparison.answers) - len(late)
    else:
        problem_of(response, 504)
