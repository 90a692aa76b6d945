"""Results of our own recipes, compared with the tutorial and with the goals set in advance."""

from typing import Final

from training.cifar10 import DISTILLED, GOALS
from training.report.markdown import Column, code, plain, table
from training.report.sections.section import Section
from training.report.sections.tutorial import tutorial_of
from training.report.versions import Published, PublishedVersion

COLUMNS: Final[tuple[Column[PublishedVersion], ...]] = (
    Column("version", lambda version: code(version.key), numeric=False),
    Column("tutorial", lambda version: f"{result.test_accuracy:.4f}" if (result := tutorial_of(version)) else ""),
    Column("goal", lambda version: f"{_goal(version):.4f}"),
    Column("reached", lambda version: f"**{version.test.accuracy:.4f}**"),
    Column("difference", lambda version: f"{_above(version):+.4f}"),
    Column("goal met?", lambda version: "met" if _above(version) >= 0 else "not met", numeric=False),
    Column("calibration error", lambda version: f"{version.test.expected_calibration_error:.4f}"),
)


def against_the_goals(published: Published) -> Section:
    """Compare the latest version of each model and recipe that has a goal."""
    ours = [version for version in published.latest() if _has_goal(version)]
    if not ours:
        return Section("Against the goals", ["No version of the recipe tuned is published."])
    met = sum(_above(version) >= 0 for version in ours)
    distilled = any(version.recipe == DISTILLED for version in ours)
    taught = "; distilled trains the small CNNs on the answers of the larger networks" if distilled else ""
    missing = [model.title for model in published.unpublished()]
    text = (
        f"The recipe tuned trains each architecture on CIFAR-10 alone, from random weights{taught}. The goals were set "
        f"before the first run. **{met} of {len(ours)}** published versions reach their goal. The calibration error is "
        "the mean gap between confidence and accuracy over bins of confidence."
    )
    blocks = [text, table(COLUMNS, ours)]
    if missing:
        blocks.append(f"Not published: {plain(', '.join(missing))}.")
    return Section("Against the goals", blocks)


def _has_goal(version: PublishedVersion) -> bool:
    return version.metadata.name in GOALS.get(version.recipe, {}) and tutorial_of(version) is not None


def _above(version: PublishedVersion) -> float:
    return version.test.accuracy - _goal(version)


def _goal(version: PublishedVersion) -> float:
    return GOALS[version.recipe][version.metadata.name]
