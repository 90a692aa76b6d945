from pathlib import Path

import numpy as np
import pytest

from cifar10_serving.artifacts.layout import read_metadata, version_folder
from cifar10_serving.artifacts.metadata import ClassResult, Evaluation
from tests.conftest import MODELS
from training.plots import confusion_matrix, most_frequent_confusions


def evaluation(classes: int, matrix: list[list[int]]) -> Evaluation:
    stored = read_metadata(version_folder(MODELS, "sequential", 1)).evaluations[0]
    entries = [ClassResult(label=f"kind {number}", n=1, precision=1, recall=1, f1=1) for number in range(classes)]
    return stored.model_copy(update={"confusion_matrix": matrix, "per_class": entries})


def drawn(test: Evaluation, folder: Path) -> str:
    file = folder / "plot.svg"
    confusion_matrix("Birds", test).savefig(file)
    return file.read_text()


def test_every_label_of_few_classes_is_written(tmp_path: Path) -> None:
    text = drawn(evaluation(30, np.eye(30, dtype=int).tolist()), tmp_path)
    assert all(f"<!-- kind {number} -->" in text for number in range(30))


def test_the_most_frequent_confusions_of_many_classes_are_written(tmp_path: Path) -> None:
    matrix = np.eye(400, dtype=int) * 50
    matrix[7, 399], matrix[2, 3] = 12, 5
    text = drawn(evaluation(400, matrix.tolist()), tmp_path)
    assert text.index("<!-- kind 7 → kind 399 -->") < text.index("<!-- kind 2 → kind 3 -->")
    assert text.count(" → kind ") == 2


def test_a_matrix_that_was_not_kept_is_not_drawn(tmp_path: Path) -> None:
    assert "test images correct" in drawn(evaluation(2000, []), tmp_path)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_most_frequent_confusions_are_ordered_and_have_no_zeros(most: int) -> None:
    matrix = [[9, 1, 0], [4, 9, 0], [0, 0, 9]]
    assert most_frequent_confusions(matrix, most) == [(1, 0, 4), (0, 1, 1)][:most]
