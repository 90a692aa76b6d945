import json
from pathlib import Path

import numpy as np
import pytest

from cifar10_serving.artifacts.confusions import CONFUSIONS_FILE, confusion_matrix_of
from cifar10_serving.artifacts.layout import (
    METADATA_FILE,
    publish,
    read_metadata,
    staging_folder,
    verify,
    version_folder,
)
from cifar10_serving.artifacts.metadata import ModelMetadata
from cifar10_serving.errors import ArtifactCorruptError
from tests.conftest import MODELS


def with_classes(count: int) -> ModelMetadata:
    """The metadata of a version with this many classes, and a matrix of its own for each evaluation."""
    document = read_metadata(version_folder(MODELS, "sequential", 1)).model_dump(mode="json")
    document["labels"] = [f"a class with quite a long name, number {number}" for number in range(count)]
    for signature in document["signatures"]:
        signature["outputs"][0]["shape"] = [-1, count]
    for number, evaluation in enumerate(document["evaluations"], 1):
        matrix = np.eye(count, dtype=int) * 9
        matrix[0, 1:4] = number
        evaluation["confusion_matrix"] = matrix.tolist()
        entry = {"n": 10, "precision": 0.9123456789012345, "recall": 0.8765432109876543, "f1": 0.8945678901234567}
        evaluation["per_class"] = [entry | {"label": label} for label in document["labels"]]
    return ModelMetadata.model_validate(document)


def published(metadata: ModelMetadata, models: Path) -> Path:
    with staging_folder(models, metadata.name) as staging:
        for name in ("saved_model.pb", metadata.golden.file):
            (staging / name).write_bytes(b"x")
        return version_folder(models, metadata.name, publish(staging, metadata, models).version)


@pytest.mark.parametrize("count", [101, 1_000])
def test_large_matrices_are_in_a_file_of_their_own(tmp_path: Path, count: int) -> None:
    metadata = with_classes(count)
    folder = published(metadata, tmp_path)
    stored = read_metadata(folder)
    verify(folder, stored)
    assert CONFUSIONS_FILE in stored.files
    assert (folder / METADATA_FILE).stat().st_size < 2**20
    for before, after in zip(metadata.evaluations, stored.evaluations, strict=True):
        assert after == before.model_copy(update={"confusion_matrix": []})
        assert confusion_matrix_of(folder, stored, after) == before.confusion_matrix


def test_small_matrices_stay_in_the_metadata(tmp_path: Path) -> None:
    metadata = with_classes(100)
    folder = published(metadata, tmp_path)
    stored = read_metadata(folder)
    assert stored.evaluations == metadata.evaluations
    assert not (folder / CONFUSIONS_FILE).exists()
    assert confusion_matrix_of(folder, stored, stored.evaluations[0]) == metadata.evaluations[0].confusion_matrix


def test_an_evaluation_without_a_matrix_has_none(tmp_path: Path) -> None:
    metadata = with_classes(101)
    first, *others = metadata.evaluations
    without = first.model_copy(update={"confusion_matrix": []})
    folder = published(metadata.model_copy(update={"evaluations": [without, *others]}), tmp_path)
    stored = read_metadata(folder)
    assert confusion_matrix_of(folder, stored, stored.evaluations[0]) == []
    assert confusion_matrix_of(folder, stored, stored.evaluations[1]) == others[0].confusion_matrix


@pytest.mark.parametrize("cell", [[101, 0, 1], [0, 1, 0], [0, 0]])
def test_a_file_that_was_not_published_is_not_used(tmp_path: Path, cell: list[int]) -> None:
    folder = published(with_classes(101), tmp_path)
    stored = read_metadata(folder)
    document = json.loads((folder / CONFUSIONS_FILE).read_text())
    document["evaluations"][0]["cells"][0] = cell
    (folder / CONFUSIONS_FILE).write_text(json.dumps(document))
    with pytest.raises(ArtifactCorruptError, match=r"confusions\.json (can't be read|is not what was published)"):
        confusion_matrix_of(folder, stored, stored.evaluations[0])
