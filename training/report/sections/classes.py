"""Results per class: recall of all models in one table, precision and F1 of each model below it."""

from functools import partial
from typing import Final

from cifar10_serving.artifacts.metadata import ClassResult
from training.report.markdown import Column, code, folded, plain, table
from training.report.sections.section import Section
from training.report.versions import Published, PublishedVersion

MAX_COLUMNS: Final = 20
"""Versions with more classes are only in the tables of single versions."""


def class_results(published: Published) -> Section:
    """Build the tables of the latest version of each model and recipe, on the test set."""
    latest = published.latest()
    by_labels: dict[tuple[str, ...], list[PublishedVersion]] = {}
    for version in latest:
        by_labels.setdefault(version.labels, []).append(version)
    blocks = ["Recall on the test set: the share of a class's images that are classified correctly."]
    for labels, versions in by_labels.items():
        if len(labels) <= MAX_COLUMNS:
            hardest = min(labels, key=partial(_mean_recall, versions))
            blocks += [
                table(_recall_columns(labels), versions),
                f"The class with the lowest mean recall is **{plain(hardest)}**.",
            ]
    blocks += [
        "Precision (the share of a class's predictions that are correct), recall and F1 (their harmonic mean):",
        *(folded(version.title, _details(version)) for version in latest),
    ]
    return Section("Class by class", blocks)


def _recall_columns(labels: tuple[str, ...]) -> list[Column[PublishedVersion]]:
    return [
        Column("version", lambda version: code(version.key), numeric=False),
        Column("recipe", lambda version: plain(version.recipe), numeric=False),
        *(Column(plain(label), partial(_recall, index=index)) for index, label in enumerate(labels)),
    ]


def _recall(version: PublishedVersion, index: int) -> str:
    return f"{version.test.per_class[index].recall:.3f}"


def _mean_recall(versions: list[PublishedVersion], label: str) -> float:
    index = versions[0].labels.index(label)
    return sum(version.test.per_class[index].recall for version in versions) / len(versions)


def _details(version: PublishedVersion) -> str:
    columns: list[Column[ClassResult]] = [
        Column("class", lambda result: plain(result.label), numeric=False),
        Column("precision", lambda result: f"{result.precision:.3f}"),
        Column("recall", lambda result: f"{result.recall:.3f}"),
        Column("F1", lambda result: f"{result.f1:.3f}"),
        Column("images", lambda result: f"{result.n:,}"),
    ]
    return table(columns, version.test.per_class)
