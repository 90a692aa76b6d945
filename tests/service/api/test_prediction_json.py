import numpy as np
import pytest

from catalog.responses import Prediction
from runtime.openvino import OpenVinoRuntime
from service.api.prediction_json import encode_prediction
from service.core.inference import name_classes
from service.core.repository import ModelRepository
from tests.conftest import SMALL_MODELS


@pytest.fixture(scope="module")
def repository() -> ModelRepository:
    return ModelRepository(SMALL_MODELS, OpenVinoRuntime())


@pytest.mark.parametrize("top_k", [1, 3, 10])
def test_json_is_what_pydantic_would_write(repository: ModelRepository, top_k: int) -> None:
    chosen = repository.get("sequential", 1)
    random = np.random.default_rng(3)
    rows = [*random.dirichlet(np.full(10, 0.1), 200), np.eye(10)[4], np.full(10, 0.1), np.linspace(-1e-7, 1 + 1e-7, 10)]
    for row in np.asarray(rows, np.float32):
        expected = name_classes(chosen, row, top_k)
        written = encode_prediction(chosen.name, chosen.version, row, top_k)
        assert Prediction.model_validate_json(written) == expected
        assert list(expected.model_dump()) == list(Prediction.model_validate_json(written).model_dump())
