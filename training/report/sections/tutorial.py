"""Our results beside the tutorial's: one row for each published version, and for each model that has none."""

import math
from dataclasses import dataclass
from typing import Final

from cifar10_serving.artifacts.labels import ModelIdentity
from cifar10_serving.artifacts.published_results import TUTORIAL_RESULTS, TutorialResult
from training.report.markdown import Column, code, items, plain, table
from training.report.sections.section import Section
from training.report.versions import RUNTIME_TITLES, TRANSFER_MODELS, Published, PublishedVersion

Z_95: Final = 1.96
"""Half-width of a 95 % interval in standard errors."""


@dataclass(frozen=True)
class Row:
    """A model with one of its versions, or with none."""

    model: ModelIdentity
    version: PublishedVersion | None

    @property
    def tutorial(self) -> TutorialResult:
        """The tutorial's row."""
        return TUTORIAL_RESULTS[self.model.name]


def tutorial_of(version: PublishedVersion) -> TutorialResult:
    """What the tutorial reports of the same model."""
    return TUTORIAL_RESULTS[version.metadata.name]


def accuracy_difference(version: PublishedVersion) -> float:
    """Our test accuracy less the tutorial's."""
    return version.test.accuracy - tutorial_of(version).test_accuracy


def sampling_error(accuracy: float, images: int) -> float:
    """Standard error of an accuracy that was measured on so many images."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


def margin_of_difference(version: PublishedVersion) -> float:
    """How far our accuracy and the tutorial's may lie apart by the choice of the test images alone (95 %)."""
    ours = sampling_error(version.test.accuracy, version.test.n)
    theirs = sampling_error(tutorial_of(version).test_accuracy, version.test.n)
    return Z_95 * math.hypot(ours, theirs)


def described_recipe(version: PublishedVersion) -> str:
    """The recipe's name, and of a transfer model the weights that its backbone began with."""
    if version.backbone_weights is None:
        return plain(version.recipe)
    return f"{plain(version.recipe)}, backbone {code(version.backbone_weights)}"


RESULTS: Final[tuple[Column[Row], ...]] = (
    Column("model", lambda row: plain(row.model.title), numeric=False),
    Column("version", lambda row: str(row.version.metadata.version) if row.version else ""),
    Column("recipe", lambda row: described_recipe(row.version) if row.version else "", numeric=False),
    Column("accuracy, tutorial", lambda row: f"{row.tutorial.test_accuracy:.4f}"),
    Column("accuracy, ours", lambda row: f"**{row.version.test.accuracy:.4f}**" if row.version else "not published"),
    Column("accuracy, difference", lambda row: f"{accuracy_difference(row.version):+.4f}" if row.version else ""),
    Column("loss, tutorial", lambda row: f"{row.tutorial.test_loss:.4f}"),
    Column("loss, ours", lambda row: f"{row.version.test.loss:.4f}" if row.version else "not published"),
    Column(
        "loss, difference", lambda row: f"{row.version.test.loss - row.tutorial.test_loss:+.4f}" if row.version else ""
    ),
)
"""Another figure to compare is another entry here."""

TRAINING: Final[tuple[Column[PublishedVersion], ...]] = (
    Column("version", lambda version: code(version.key), numeric=False),
    Column("recipe", described_recipe, numeric=False),
    Column("parameters", lambda version: f"{version.metadata.parameters.total:,}"),
    Column("trainable", lambda version: f"{version.metadata.parameters.trainable:,}"),
    Column("epochs", lambda version: str(len(version.metadata.training.history))),
    Column("seed", lambda version: str(version.metadata.training.seed)),
    Column("minutes", lambda version: f"{version.metadata.training.wall_time_s / 60:.1f}"),
    Column("trained on", lambda version: plain(version.metadata.training.hardware), numeric=False),
)


def against_the_tutorial(published: Published) -> Section:
    """The table of results, how much of a difference is chance, and what is missing."""
    rows = [Row(version.model, version) for version in published.versions]
    rows += [Row(model, None) for model in published.unpublished()]
    rows.sort(key=lambda row: list(TUTORIAL_RESULTS).index(row.model.name))
    blocks = [_measured(published), table(RESULTS, rows)]
    followers = [version for version in published.versions if version.follows_tutorial]
    if followers:
        blocks.append(_margin(followers))
    blocks += _missing(published)
    blocks += ["### How they were trained", table(TRAINING, published.versions)]
    return Section("Against the tutorial", blocks)


def _measured(published: Published) -> str:
    tests = [version.test for version in published.versions]
    sizes = " or ".join(sorted({f"{test.n:,}" for test in tests}))
    runtimes = " and ".join(sorted({f"{RUNTIME_TITLES[test.runtime]} {test.runtime_version}" for test in tests}))
    return (
        f"Ours is what the published artifact itself answers over the {sizes} test images, run by {runtimes} in "
        "float32; the loss is the mean cross-entropy. The tutorial's figures are what it prints (TensorFlow 2.10)."
    )


def _margin(followers: list[PublishedVersion]) -> str:
    within = sum(abs(accuracy_difference(version)) <= margin_of_difference(version) for version in followers)
    widest = max(margin_of_difference(version) for version in followers)
    return (
        f"**{within} of {len(followers)}** versions trained by the tutorial's recipe lie within the sampling error of "
        f"its accuracy: two accuracies measured on as many images each lie up to {widest:.4f} apart by the choice of "
        "the images alone (95\u00a0% interval, taken as independent). What another seed changes comes on top."
    )


def _missing(published: Published) -> list[str]:
    blocks = []
    unpublished = published.unpublished()
    if unpublished:
        names = ", ".join(plain(model.title) for model in unpublished)
        commands = [code(f"python -m training fit {model.name} --recipe tutorial") for model in unpublished]
        transfer = any(model.name in TRANSFER_MODELS.models for model in unpublished)
        needs = (
            " The tutorial's recipe for the transfer models begins with Keras' ImageNet weights, so it needs a machine "
            "that reaches them, or the file."
            if transfer
            else ""
        )
        blocks += [f"Nothing is published of {names}.{needs} What trains and publishes them:", items(commands)]
    if published.left_out:
        blocks += [
            "Published and not in this report:",
            items([f"{code(f'{entry.name}/{entry.version}')}: {plain(entry.reason)}" for entry in published.left_out]),
        ]
    return blocks
