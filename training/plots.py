"""Draw the three SVG plots of a version: learning curves, confusion matrix, sample predictions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from cifar10_serving.artifacts.metadata import EpochResult, Evaluation
from cifar10_serving.runtimes.base import Probabilities
from training.data.dataset import Split

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "cifar10-serving"  # makes the files reproducible
mpl.rcParams["text.parse_math"] = False  # a title may contain dollar signs

PLOT_NAMES: Final = ("learning_curves", "confusion_matrix", "sample_predictions")
SAMPLE_ROWS: Final = 4
SAMPLE_COLUMNS: Final = 8
MAX_WRITTEN_CLASSES: Final = 30
"""A confusion matrix of more classes has no labels and numbers; the most frequent confusions are listed instead."""
MAX_CONFUSIONS: Final = 20
MAX_LABEL_SHOWN: Final = 30


def write_plots(
    folder: Path,
    *,
    title: str,
    history: list[EpochResult],
    test: Evaluation | None,
    split: Split,
    probabilities: Probabilities,
) -> list[str]:
    """Write an SVG file for each of `PLOT_NAMES` that there are numbers for into a folder; return their names.

    Args:
        folder: the output folder; created if there is a plot.
        title: the model's title.
        history: the epochs; may be empty.
        test: the evaluation on the test images, if there is one.
        split: the test images.
        probabilities: (n, classes), the model's answers for them.
    """
    figures: dict[str, Any] = {}
    if history:
        figures["learning_curves"] = learning_curves(title, history)
    if test is not None:
        if test.confusion_matrix:
            figures["confusion_matrix"] = confusion_matrix(title, test)
        figures["sample_predictions"] = sample_predictions(title, split, probabilities, _labels(test))
    for name, figure in figures.items():
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / f"{name}.svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
        plt.close(figure)
    return list(figures)


def learning_curves(title: str, history: list[EpochResult]) -> Any:
    """Plot loss and accuracy by epoch, with validation if the run had it."""
    figure, (loss_axes, accuracy_axes) = plt.subplots(1, 2, figsize=(10, 4))
    epochs = [entry.epoch for entry in history]
    loss_axes.plot(epochs, [entry.loss for entry in history], label="training")
    loss_axes.set(xlabel="epoch", ylabel="cross-entropy", title="Loss")
    accuracy_axes.plot(epochs, [entry.accuracy for entry in history], label="training")
    accuracy_axes.set(xlabel="epoch", ylabel="accuracy", title="Accuracy")
    if all(entry.val_loss is not None for entry in history):
        loss_axes.plot(epochs, [entry.val_loss for entry in history], label="validation")
        accuracy_axes.plot(epochs, [entry.val_accuracy for entry in history], label="validation")
    for axes in (loss_axes, accuracy_axes):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    return figure


def confusion_matrix(title: str, test: Evaluation) -> Any:
    """Plot the counts of predicted classes (columns) for each true class (rows).

    With many classes, the most frequent confusions are beside it, with their labels.
    """
    labels = _labels(test)
    if len(labels) <= MAX_WRITTEN_CLASSES:
        figure, axes = plt.subplots(figsize=(7, 6))
    else:
        figure, (axes, confusions_axes) = plt.subplots(1, 2, figsize=(14, 6), width_ratios=(3, 2), layout="constrained")
        draw_confusions(confusions_axes, test.confusion_matrix, labels)
    picture = draw_confusion_matrix(axes, test.confusion_matrix, labels)
    if picture is not None:
        figure.colorbar(picture, label="images")
    axes.set_title(f"{title}: {test.correct:,} of {test.n:,} test images correct")
    return figure


def draw_confusion_matrix(axes: Any, matrix: list[list[int]], labels: Sequence[str]) -> Any:
    """Draw a confusion matrix into the axes; return the image, for a colour bar, or None if the matrix is empty."""
    axes.set(xlabel="predicted class", ylabel="true class")
    if not matrix:
        return None
    counts = np.array(matrix)
    picture = axes.imshow(counts, cmap="Blues")
    if len(labels) > MAX_WRITTEN_CLASSES:
        return picture
    axes.set(xticks=range(len(labels)), yticks=range(len(labels)))
    axes.set_xticklabels(labels, rotation=45, ha="right")
    axes.set_yticklabels(labels)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if count > counts.max() / 2 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    return picture


def draw_confusions(axes: Any, matrix: list[list[int]], labels: Sequence[str]) -> None:
    """Draw the most frequent confusions into the axes as bars, the most frequent first."""
    found = most_frequent_confusions(matrix, MAX_CONFUSIONS)
    words = [f"{_shortened(labels[true])} → {_shortened(labels[given])}" for true, given, _ in found]
    bars = axes.barh(range(len(found)), [images for _, _, images in found], color="tab:blue")
    axes.bar_label(bars, fontsize=8, padding=2)
    axes.set_yticks(range(len(found)), words, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="images", title="Most frequent confusions: true → predicted")


def most_frequent_confusions(matrix: list[list[int]], most: int) -> list[tuple[int, int, int]]:
    """Return (true class, predicted class, images) of the most frequent confusions, the most frequent first."""
    if not matrix:
        return []
    counts = np.array(matrix)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:most].tolist()
    places = [divmod(index, len(counts)) for index in order]
    return [(true, given, int(counts[true, given])) for true, given in places if counts[true, given]]


def _shortened(label: str) -> str:
    return label if len(label) <= MAX_LABEL_SHOWN else f"{label[: MAX_LABEL_SHOWN - 1]}…"


def sample_predictions(title: str, split: Split, probabilities: Probabilities, labels: Sequence[str]) -> Any:
    """Show the first test images with predicted class and probability, green if correct and red if wrong."""
    figure, grid = plt.subplots(SAMPLE_ROWS, SAMPLE_COLUMNS, figsize=(12, 7.5))
    for axes in grid.flat:
        axes.axis("off")
    shown = split.images[: SAMPLE_ROWS * SAMPLE_COLUMNS]
    for axes, image, label, row in zip(grid.flat, shown, split.labels, probabilities, strict=False):
        axes.imshow(image, interpolation="nearest")
        given = int(row.argmax())
        text = f"{labels[given]} {row[given]:.2f}"
        if given != label:
            text += f"\n(is {labels[label]})"
        axes.set_title(text, fontsize=8, color="green" if given == label else "crimson")
    figure.suptitle(f"{title}: the first {SAMPLE_ROWS * SAMPLE_COLUMNS} test images")
    return figure


def _labels(evaluation: Evaluation) -> list[str]:
    return [result.label for result in evaluation.per_class]
