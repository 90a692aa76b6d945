"""How well each class is told: recall of all models in one table, precision and F1 of each below it."""

from functools import partial

from cifar10_serving.artifacts.labels import CLASS_NAMES
from cifar10_serving.artifacts.metadata import ClassResult
from training.report.markdown import Column, code, folded, plain, table
from training.report.sections.section import Section
from training.report.versions import Published, PublishedVersion


def class_results(published: Published) -> Section:
    """Results by class on the test set, of the latest version of each model and recipe."""
    latest = published.latest()
    hardest = _hardest_class(latest)
    meaning = (
        "Recall on the test set: the share of a class's images that is called by its name. Over these versions the "
        f"class with the lowest mean is **{hardest}**."
    )
    blocks = [
        meaning,
        table(_recall_columns(), latest),
        "Precision (the share of right ones among the images called so), recall and F1 (their harmonic mean):",
        *(folded(version.title, _details(version)) for version in latest),
    ]
    return Section("Class by class", blocks)


def _recall_columns() -> list[Column[PublishedVersion]]:
    return [
        Column("version", lambda version: code(version.key), numeric=False),
        Column("recipe", lambda version: plain(version.recipe), numeric=False),
        *(Column(label, partial(_recall, label=label)) for label in CLASS_NAMES),
    ]


def _recall(version: PublishedVersion, label: str) -> str:
    return f"{_by_label(version)[label].recall:.3f}"


def _by_label(version: PublishedVersion) -> dict[str, ClassResult]:
    return {result.label: result for result in version.test.per_class}


def _hardest_class(versions: list[PublishedVersion]) -> str:
    return min(CLASS_NAMES, key=lambda label: sum(_by_label(version)[label].recall for version in versions))


def _details(version: PublishedVersion) -> str:
    columns: list[Column[ClassResult]] = [
        Column("class", lambda result: result.label, numeric=False),
        Column("precision", lambda result: f"{result.precision:.3f}"),
        Column("recall", lambda result: f"{result.recall:.3f}"),
        Column("F1", lambda result: f"{result.f1:.3f}"),
        Column("images", lambda result: f"{result.n:,}"),
    ]
    return table(columns, version.test.per_class)
