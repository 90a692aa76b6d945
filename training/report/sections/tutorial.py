"""Our results compared with the tutorial's: one row per published version, and per tutorial model without one."""

import math
from dataclasses import dataclass
from typing import Final

from cifar10_serving.artifacts.tutorial import TutorialResult
from training.cifar10 import DATASET_NAME, MODEL_NAMES, TUTORIAL_RESULTS
from training.report.markdown import Column, code, items, plain, table
from training.report.sections.section import Section
from training.report.versions import RUNTIME_TITLES, TRANSFER_MODELS, Published, PublishedVersion

Z_95: Final = 1.96
"""Half-width of a 95 % interval in standard errors."""


@dataclass(frozen=True)
class Row:
    """A published version, or a model of the tutorial without one."""

    name: str
    title: str
    version: PublishedVersion | None
    tutorial: TutorialResult | None


def tutorial_of(version: PublishedVersion) -> TutorialResult | None:
    """Return the tutorial's result for the same model; None for other models and other data sets."""
    metadata = version.metadata
    return TUTORIAL_RESULTS.get(metadata.name) if metadata.measured_data.name == DATASET_NAME else None


def sampling_error(accuracy: float, images: int) -> float:
    """Return the standard error of an accuracy measured on this many images."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


def described_recipe(version: PublishedVersion) -> str:
    """Return the recipe's name, with the initial backbone weights of a transfer model."""
    if version.backbone_weights is None:
        return plain(version.recipe)
    return f"{plain(version.recipe)}, backbone {code(version.backbone_weights)}"


def _cell(value: float | None, form: str, missing: str = "") -> str:
    return missing if value is None else format(value, form)


def _tutorial_accuracy(row: Row) -> float | None:
    return row.tutorial.test_accuracy if row.tutorial else None


def _tutorial_loss(row: Row) -> float | None:
    return row.tutorial.test_loss if row.tutorial else None


def _difference(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs


def _accuracy(row: Row) -> float | None:
    return row.version.test.accuracy if row.version else None


def _loss(row: Row) -> float | None:
    return row.version.test.loss if row.version else None


NOT_PUBLISHED: Final = "not published"
RESULTS: Final[tuple[Column[Row], ...]] = (
    Column("model", lambda row: plain(row.title), numeric=False),
    Column("version", lambda row: str(row.version.metadata.version) if row.version else ""),
    Column("recipe", lambda row: described_recipe(row.version) if row.version else "", numeric=False),
    Column("accuracy, tutorial", lambda row: _cell(_tutorial_accuracy(row), ".4f")),
    Column("accuracy, ours", lambda row: f"**{row.version.test.accuracy:.4f}**" if row.version else NOT_PUBLISHED),
    Column("accuracy, difference", lambda row: _cell(_difference(_accuracy(row), _tutorial_accuracy(row)), "+.4f")),
    Column("loss, tutorial", lambda row: _cell(_tutorial_loss(row), ".4f")),
    Column("loss, ours", lambda row: _cell(_loss(row), ".4f", NOT_PUBLISHED)),
    Column("loss, difference", lambda row: _cell(_difference(_loss(row), _tutorial_loss(row)), "+.4f")),
)
"""Add a column here to compare another result."""

TRAINING: Final[tuple[Column[PublishedVersion], ...]] = (
    Column("version", lambda version: code(version.key), numeric=False),
    Column("recipe", described_recipe, numeric=False),
    Column("parameters", lambda version: f"{version.metadata.parameters.total:,}"),
    Column("trainable", lambda version: f"{version.metadata.parameters.trainable:,}"),
    Column("epochs", lambda version: str(len(version.metadata.training_run.history))),
    Column("seed", lambda version: str(version.metadata.training_run.seed)),
    Column("minutes", lambda version: f"{version.metadata.training_run.wall_time_s / 60:.1f}"),
    Column("trained on", lambda version: plain(version.metadata.training_run.hardware), numeric=False),
)


def against_the_tutorial(published: Published) -> Section:
    """Build the table of results, with the sampling error and the missing versions."""
    rows = [_row(version) for version in published.versions]
    rows += [Row(model.name, model.title, None, TUTORIAL_RESULTS[model.name]) for model in published.unpublished()]
    rows.sort(key=_position)
    blocks = [_measured(published), table(RESULTS, rows)]
    followers = [
        (version, result)
        for version in published.versions
        if version.follows_tutorial and (result := tutorial_of(version)) is not None
    ]
    if followers:
        blocks.append(_margin(followers))
    blocks += _missing(published)
    return Section("Against the tutorial", [*blocks, *_training(published.versions)])


def results(published: Published) -> Section:
    """Build the table of results where no version has a result of the tutorial to be compared with."""
    columns = [column for column in RESULTS if "tutorial" not in column.head and "difference" not in column.head]
    rows = [_row(version) for version in published.versions]
    return Section("Results", [_measured(published), table(columns, rows), *_training(published.versions)])


def _training(versions: list[PublishedVersion]) -> list[str]:
    trained = [version for version in versions if version.history]
    return ["### Training", table(TRAINING, trained)] if trained else []


def _row(version: PublishedVersion) -> Row:
    return Row(version.metadata.name, version.metadata.title, version, tutorial_of(version))


def _position(row: Row) -> int:
    return MODEL_NAMES.index(row.name) if row.name in MODEL_NAMES else len(MODEL_NAMES)


def _measured(published: Published) -> str:
    tests = [version.test for version in published.versions]
    sizes = " or ".join(sorted({f"{test.n:,}" for test in tests}))
    runtimes = " and ".join(sorted({f"{RUNTIME_TITLES[test.runtime]} {test.runtime_version}" for test in tests}))
    has_theirs = any(tutorial_of(version) is not None for version in published.versions)
    theirs = " The tutorial's results are the ones that it prints (TensorFlow 2.10)." if has_theirs else ""
    return (
        f"Our results are the published artifact's own answers for the {sizes} test images, computed by {runtimes} in "
        f"float32. The loss is the mean cross-entropy.{theirs}"
    )


def _margin(followers: list[tuple[PublishedVersion, TutorialResult]]) -> str:
    differences = [abs(version.test.accuracy - result.test_accuracy) for version, result in followers]
    margins = [_margin_of_difference(version, result) for version, result in followers]
    within = sum(difference <= margin for difference, margin in zip(differences, margins, strict=True))
    return (
        f"**{within} of {len(followers)}** versions trained with the tutorial's recipe match its accuracy within the "
        f"sampling error: the choice of the test images alone can make two such accuracies differ by up to "
        f"{max(margins):.4f} (95\u00a0% interval, assuming independence). Different seeds add to that."
    )


def _margin_of_difference(version: PublishedVersion, result: TutorialResult) -> float:
    """Return the largest difference of the accuracies that the choice of the test images explains (95 %)."""
    ours = sampling_error(version.test.accuracy, version.test.n)
    theirs = sampling_error(result.test_accuracy, version.test.n)
    return Z_95 * math.hypot(ours, theirs)


def _missing(published: Published) -> list[str]:
    blocks = []
    unpublished = published.unpublished()
    if unpublished:
        names = ", ".join(plain(model.title) for model in unpublished)
        commands = [code(f"python -m training fit {model.name} --recipe tutorial") for model in unpublished]
        transfer = any(model.name in TRANSFER_MODELS.models for model in unpublished)
        needs = (
            " The tutorial's recipe for the transfer models starts from Keras' ImageNet weights, so it needs network "
            "access to them, or the weights file."
            if transfer
            else ""
        )
        blocks += [f"Not published: {names}.{needs} To train and publish them:", items(commands)]
    if published.left_out:
        blocks += [
            "Published, but not in this report:",
            items([f"{code(f'{entry.name}/{entry.version}')}: {plain(entry.reason)}" for entry in published.left_out]),
        ]
    return blocks
