"""Folders named by the classes of any model, and their evaluation."""

import csv
from pathlib import Path

import pytest

from cifar10_serving.client.commands.exit_codes import CommandLineError
from cifar10_serving.client.commands.folder_labels import FolderLabels, StoredEvaluation, Tally, evaluation_lines
from cifar10_serving.client.commands.rows import Row, csv_line, csv_words
from cifar10_serving.schemas import ClassProbability, Prediction

LEAVES = FolderLabels(["healthy", "rust", "scab"])


def test_the_nearest_folder_that_is_named_by_a_class_counts() -> None:
    assert LEAVES.of(Path("/scab/rust/a.png")) == "rust"
    assert LEAVES.of(Path("/scab/mine/a.png")) == "scab"
    assert LEAVES.of(Path("/mine/rust.png")) is None
    with pytest.raises(CommandLineError, match=r"healthy, rust, scab.*did you mean 'rust' instead of 'Rust'\?"):
        LEAVES.check([Path("/rust/a.png"), Path("/Rust/a.png")])


def test_answers_are_counted_by_label() -> None:
    tally = Tally(LEAVES)
    for true_label, label in (("rust", "rust"), ("rust", "scab"), ("healthy", "healthy")):
        tally.add(true_label, "leaves", 1, label)
    assert tally.matrix == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert (tally.n, tally.correct, dict(tally.versions)) == (3, 2, {("leaves", 1): 3})
    *_, line = evaluation_lines(tally, [StoredEvaluation("leaves", 1)])
    assert line == "leaves version 1 was not measured when it was published"
    lines = evaluation_lines(tally, [StoredEvaluation("leaves", 1, is_available=False)])
    assert lines[0].split() == ["true", "\\", "predicted", "healt", "rust", "scab"]
    assert lines[-1] == "no stored accuracy for leaves version 1"


def test_class_that_the_first_version_does_not_have_is_told() -> None:
    with pytest.raises(CommandLineError, match="other version 2 answers 'mildew', which is not a class"):
        Tally(LEAVES).add("rust", "other", 2, "mildew")


def test_matrix_of_many_classes_is_left_to_programs() -> None:
    labels = [f"class {number}" for number in range(1000)]
    tally = Tally(FolderLabels(labels))
    tally.add(labels[7], "many", 1, labels[7])
    lines = evaluation_lines(tally, [])
    assert lines[0] == "the confusion matrix of 1,000 classes is only in --json"
    assert len(lines) == 3
    with pytest.raises(CommandLineError, match="class 39 and 960 more"):
        FolderLabels(labels).check([Path("/nothing/a.png")])


@pytest.mark.parametrize("label", ["cat", "=1+1", "-1", "@home", "'quoted'", "a, b"])
def test_label_is_no_formula_in_a_table_and_is_read_as_it_was(label: str) -> None:
    top = ClassProbability(label=label, class_id=0, probability=0.5)
    line = csv_line(Row("a.png", Prediction(model="m", version=1, label=label, class_id=0, confidence=0.5, top=[top])))
    (values,) = csv.reader([line])
    assert not values[1].startswith(("=", "-", "@"))
    assert csv_words(values[1]) == label
