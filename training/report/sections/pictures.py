"""Test images with right and wrong answers, from the golden images of each version."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.report.figures import new_figure, svg
from training.report.markdown import picture
from training.report.sections.section import Section
from training.report.versions import Published, PublishedVersion

COLUMNS: Final = 5


def right_and_wrong(published: Published) -> Section:
    """Draw the first right and wrong answers of the latest version of each model and recipe."""
    latest = published.latest()
    sizes = " or ".join(sorted({str(len(version.golden.labels)) for version in latest}))
    pictures = [picture(f"Right and wrong answers of {version.key}", _name(version)) for version in latest]
    choice = (
        f"Each version contains {sizes} test images in its `golden.npz`. Shown are the first {COLUMNS} that it "
        f"classifies correctly and the first {COLUMNS} that it gets wrong, with the predicted probability."
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
    _fill(grid[0], version, np.flatnonzero(right)[:COLUMNS], "green")
    _fill(grid[1], version, np.flatnonzero(~right)[:COLUMNS], "crimson")
    figure.suptitle(f"{version.title}: {int(right.sum())} of {len(right)} correct", fontsize=11)
    return figure


def _fill(row: NDArray[Any], version: PublishedVersion, indices: NDArray[np.int64], colour: str) -> None:
    golden, labels = version.golden, version.labels
    for axes, index in zip(row, indices, strict=False):
        given, label = int(golden.probabilities[index].argmax()), int(golden.labels[index])
        words = f"{labels[given]} {golden.probabilities[index, given]:.2f}"
        if given != label:
            words += f"\nis {labels[label]}"
        axes.imshow(golden.images[index], interpolation="nearest")
        axes.set_title(words, fontsize=9, color=colour)
