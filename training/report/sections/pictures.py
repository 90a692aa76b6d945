"""Test images with right and wrong answers, from the golden images that each version carries."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cifar10_serving.artifacts.labels import CLASS_NAMES
from cifar10_serving.runtimes.golden import GoldenAnswers
from training.report.figures import new_figure, svg
from training.report.markdown import picture
from training.report.sections.section import Section
from training.report.versions import Published, PublishedVersion

COLUMNS: Final = 5


def right_and_wrong(published: Published) -> Section:
    """The first right and the first wrong answers of the latest version of each model and recipe."""
    latest = published.latest()
    sizes = " or ".join(sorted({str(len(version.golden.labels)) for version in latest}))
    pictures = [
        picture(f"Test images that {version.key} gives the right and the wrong class", _name(version))
        for version in latest
    ]
    choice = (
        f"Of the {sizes} test images that a version carries in its `golden.npz`, the first {COLUMNS} that it gives "
        f"the right class and the first {COLUMNS} that it gives a wrong one, with the probability that it gave."
    )
    return Section(
        "Right and wrong answers",
        [choice, "\n".join(pictures)],
        {_name(version): svg(_figure(version)) for version in latest},
    )


def _name(version: PublishedVersion) -> str:
    return f"right_and_wrong_{version.slug}"


def _figure(version: PublishedVersion) -> Any:
    golden = version.golden
    right = golden.probabilities.argmax(axis=1) == golden.labels
    figure = new_figure(6.2, 3.6)
    grid = figure.subplots(2, COLUMNS)
    for axes in grid.flat:
        axes.axis("off")
    _fill(grid[0], golden, np.flatnonzero(right)[:COLUMNS], "green")
    _fill(grid[1], golden, np.flatnonzero(~right)[:COLUMNS], "crimson")
    figure.suptitle(f"{version.title}: {int(right.sum())} of {len(right)} right", fontsize=11)
    return figure


def _fill(row: NDArray[Any], golden: GoldenAnswers, indices: NDArray[np.int64], colour: str) -> None:
    for axes, index in zip(row, indices, strict=False):
        given, label = int(golden.probabilities[index].argmax()), int(golden.labels[index])
        words = f"{CLASS_NAMES[given]} {golden.probabilities[index, given]:.2f}"
        if given != label:
            words += f"\nis {CLASS_NAMES[label]}"
        axes.imshow(golden.images[index], interpolation="nearest")
        axes.set_title(words, fontsize=9, color=colour)
