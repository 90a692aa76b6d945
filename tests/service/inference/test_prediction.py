from pathlib import Path

import numpy as np
import pytest

from cifar10_serving.artifacts.layout import read_metadata, version_folder
from cifar10_serving.schemas import Prediction
from service.inference.pipeline import encode_prediction, name_classes, top_classes
from service.registry.version import ModelVersion
from tests.conftest import MODELS


def version() -> ModelVersion:
    entry = ModelVersion("sequential", 1, Path(), ())
    entry.metadata = read_metadata(version_folder(MODELS, "sequential", 1))
    return entry


@pytest.mark.parametrize("top_k", [1, 3, 10])
def test_json_is_what_pydantic_would_write(top_k: int) -> None:
    random = np.random.default_rng(3)
    rows = [*random.dirichlet(np.full(10, 0.1), 200), np.eye(10)[4], np.full(10, 0.1), np.linspace(-1e-7, 1 + 1e-7, 10)]
    entry = version()
    for row in np.asarray(rows, np.float32):
        expected = name_classes(entry, row, top_k)
        written = encode_prediction(entry, row, top_k)
        assert Prediction.model_validate_json(written) == expected
        assert list(expected.model_dump()) == list(Prediction.model_validate_json(written).model_dump())


def test_classes_have_the_labels_of_the_version() -> None:
    entry = version()
    entry.labels = ("healthy", "rust", "scab")
    found = name_classes(entry, np.asarray([0.1, 0.7, 0.2], np.float32), top_k=3)
    assert (found.label, found.class_id) == ("rust", 1)
    assert [known.label for known in found.top] == ["rust", "scab", "healthy"]


def test_ties_go_to_the_lower_class_and_rounding_is_put_back() -> None:
    row = np.asarray([0.25, 1.0000001, 0.25, -1e-9, 0, 0, 0, 0, 0, 0], np.float32)
    assert top_classes(row, 3) == [(1, 1.0), (0, 0.25), (2, 0.25)]
    assert top_classes(row, 10)[-1] == (3, 0.0)


@pytest.mark.parametrize("classes", [2, 10, 64, 65, 10_000])
def test_so_many_classes_are_ordered_alike(classes: int) -> None:
    row = np.random.default_rng(classes).integers(0, 50, classes).astype(np.float32) / np.float32(64)
    order = sorted(range(classes), key=lambda index: (-row[index], index))[:5]
    assert top_classes(row, 5) == [(index, float(row[index])) for index in order]
