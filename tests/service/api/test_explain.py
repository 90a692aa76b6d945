from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from cifar10_serving.schemas import Explanation
from tests.conftest import SAMPLES, golden_class
from tests.service.api.test_native import problem_of

CAT = SAMPLES[3]
PNG = {"Content-Type": "image/png"}


def explain(client: TestClient, **parameters: Any) -> Any:
    return client.post(
        "/explain", content=CAT.file.read_bytes(), headers=PNG, params={"model": "sequential"} | parameters
    )


def test_the_answers_own_class_is_explained(client: TestClient) -> None:
    explanation = Explanation.model_validate_json(explain(client).content)
    answer = client.post("/predict?model=sequential", content=CAT.file.read_bytes(), headers=PNG).json()
    assert (explanation.class_id, explanation.label) == (golden_class("sequential", CAT), answer["label"])
    assert explanation.confidence == pytest.approx(answer["confidence"], abs=1e-4)
    assert (explanation.patch_pixels, explanation.stride_pixels, explanation.images) == (8, 4, 50)
    importance = np.asarray(explanation.importance)
    assert importance.shape == (32, 32)
    assert np.abs(importance).max() <= 1
    assert importance.max() > 0.001


def test_another_class_has_another_explanation(client: TestClient) -> None:
    own, other = explain(client).json(), explain(client, class_id=8).json()
    assert (other["class_id"], other["label"]) == (8, "ship")
    assert other["importance"] != own["importance"]


@pytest.mark.parametrize(
    ("parameters", "status", "name"),
    [
        ({"patch": 0}, 422, "patch"),
        ({"patch": 33}, 422, "patch"),
        ({"patch": 4, "stride": 5}, 422, "stride"),
        ({"patch": 2, "stride": 1}, 422, "stride"),
        ({"class_id": 10}, 422, "class_id"),
        ({"model": "alexnet"}, 404, None),
    ],
)
def test_what_cannot_be_explained_is_named(
    client: TestClient, parameters: dict[str, Any], status: int, name: str | None
) -> None:
    problem = problem_of(explain(client, **parameters), status)
    assert [invalid.name for invalid in problem.invalid_parameters or []] == ([name] if name else [])


def test_too_many_squares_are_rejected_with_their_number(client: TestClient) -> None:
    assert "needs 962 images, and the limit is 512" in problem_of(explain(client, patch=2, stride=1), 422).detail


def test_a_picture_that_cannot_be_decoded_is_rejected(client: TestClient) -> None:
    problem_of(client.post("/explain", content=b"hello", headers=PNG), 400)
