"""Results of our recipes, beside the tutorial's result and beside the goals that were set before."""

from typing import Final

from cifar10_serving.artifacts.labels import SMALL_CNNS, ModelName
from training.report.markdown import Column, code, plain, table
from training.report.sections.section import Section
from training.report.sections.tutorial import tutorial_of
from training.report.versions import Published, PublishedVersion

TUNED: Final = "tuned"
DISTILLED: Final = "distilled"
GOALS: Final[dict[str, dict[ModelName, float]]] = {
    TUNED: {
        **dict.fromkeys(SMALL_CNNS, 0.86),
        "vgg16": 0.93,
        "mobilenetv2": 0.92,
        "resnet50v2": 0.91,
    },
    DISTILLED: dict.fromkeys(SMALL_CNNS, 0.895),
}
"""Recipe -> model -> test accuracy, in float32; set before a recipe's first run, from what others reach with these
networks on CIFAR-10, and for the distilled ones from what labels alone gave."""

COLUMNS: Final[tuple[Column[PublishedVersion], ...]] = (
    Column("version", lambda version: code(version.key), numeric=False),
    Column("tutorial", lambda version: f"{tutorial_of(version).test_accuracy:.4f}"),
    Column("goal", lambda version: f"{_goal(version):.4f}"),
    Column("reached", lambda version: f"**{version.test.accuracy:.4f}**"),
    Column("reached less goal", lambda version: f"{_above(version):+.4f}"),
    Column("", lambda version: "met" if _above(version) >= 0 else "short of the goal", numeric=False),
    Column("calibration error", lambda version: f"{version.test.expected_calibration_error:.4f}"),
)


def against_the_goals(published: Published) -> Section:
    """The latest version of each model by each recipe that has goals."""
    ours = [version for version in published.latest() if version.recipe in GOALS]
    if not ours:
        return Section("Against the goals", ["No version by the recipe tuned is published."])
    met = sum(_above(version) >= 0 for version in ours)
    distilled = any(version.recipe == DISTILLED for version in ours)
    taught = "; distilled has the small CNNs learn from the larger networks that tuned has trained" if distilled else ""
    missing = [model.title for model in published.unpublished()]
    text = (
        f"The recipe tuned trains each architecture on CIFAR-10 alone, from random weights{taught}. "
        f"**{met} of {len(ours)}** published versions reach their goal. The calibration error is the mean distance "
        "of confidence and accuracy over bins of confidence."
    )
    blocks = [text, table(COLUMNS, ours)]
    if missing:
        blocks.append(f"Not published: {plain(', '.join(missing))}.")
    return Section("Against the goals", blocks)


def _above(version: PublishedVersion) -> float:
    return version.test.accuracy - _goal(version)


def _goal(version: PublishedVersion) -> float:
    return GOALS[version.recipe][version.metadata.name]
