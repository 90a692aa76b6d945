"""What the tuned recipe reached, beside the tutorial's result and beside the goal that was set before."""

from typing import Final

from catalog.labels import ModelName
from training.report.markdown import Column, code, plain, table
from training.report.sections.section import Section
from training.report.sections.tutorial import tutorial_of
from training.report.versions import Published, PublishedVersion

TUNED: Final = "tuned"
GOALS: Final[dict[ModelName, float]] = {
    "sequential": 0.86,
    "functional": 0.86,
    "subclassing": 0.86,
    "vgg16": 0.93,
    "mobilenetv2": 0.92,
    "resnet50v2": 0.91,
}
"""Test accuracy, in float32; set before the first run, from what others reach with these networks on CIFAR-10."""

COLUMNS: Final[tuple[Column[PublishedVersion], ...]] = (
    Column("version", lambda version: code(version.key), numeric=False),
    Column("tutorial", lambda version: f"{tutorial_of(version).test_accuracy:.4f}"),
    Column("goal", lambda version: f"{GOALS[version.metadata.name]:.4f}"),
    Column("reached", lambda version: f"**{version.test.accuracy:.4f}**"),
    Column("reached less goal", lambda version: f"{_above(version):+.4f}"),
    Column("", lambda version: "met" if _above(version) >= 0 else "short of the goal", numeric=False),
    Column("calibration error", lambda version: f"{version.test.expected_calibration_error:.4f}"),
)


def against_the_goals(published: Published) -> Section:
    """The latest tuned version of each model."""
    tuned = [version for version in published.latest() if version.recipe == TUNED]
    if not tuned:
        return Section("Against the goals", ["No version by the recipe tuned is published."])
    met = sum(_above(version) >= 0 for version in tuned)
    missing = [model.title for model in published.unpublished()]
    text = (
        f"The recipe tuned trains each architecture on CIFAR-10 alone, from random weights. **{met} of {len(tuned)}** "
        "published versions reach their goal. The calibration error is the mean distance of confidence and accuracy "
        "over bins of confidence."
    )
    blocks = [text, table(COLUMNS, tuned)]
    if missing:
        blocks.append(f"Not published: {plain(', '.join(missing))}.")
    return Section("Against the goals", blocks)


def _above(version: PublishedVersion) -> float:
    return version.test.accuracy - GOALS[version.metadata.name]
