import numpy as np
import pytest

from cifar10_serving.schemas import Prediction
from service.inference.pipeline import encode_prediction, name_classes, top_classes


@pytest.mark.parametrize("top_k", [1, 3, 10])
def test_json_is_what_pydantic_would_write(top_k: int) -> None:
    random = np.random.default_rng(3)
    rows = [*random.dirichlet(np.full(10, 0.1), 200), np.eye(10)[4], np.full(10, 0.1), np.linspace(-1e-7, 1 + 1e-7, 10)]
    for row in np.asarray(rows, np.float32):
        expected = name_classes("sequential", 1, row, top_k)
        written = encode_prediction("sequential", 1, row, top_k)
        assert Prediction.model_validate_json(written) == expected
        assert list(expected.model_dump()) == list(Prediction.model_validate_json(written).model_dump())


def test_ties_go_to_the_lower_class_and_rounding_is_put_back() -> None:
    row = np.asarray([0.25, 1.0000001, 0.25, -1e-9, 0, 0, 0, 0, 0, 0], np.float32)
    assert top_classes(row, 3) == [(1, 1.0), (0, 0.25), (2, 0.25)]
    assert top_classes(row, 10)[-1] == (3, 0.0)
