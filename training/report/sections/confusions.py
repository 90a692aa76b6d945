"""Confusion matrices, and the most frequent confusions in words."""

from typing import Any, Final

from cifar10_serving.artifacts.confusions import confusion_matrix_of
from training.plots import draw_confusion_matrix, most_frequent_confusions
from training.report.figures import new_figure, svg
from training.report.markdown import Column, code, picture, plain, table
from training.report.sections.section import Section
from training.report.versions import Published, PublishedVersion

MISTAKES: Final = 3


def confusion_matrices(published: Published) -> Section:
    """Draw the matrices of the latest version of each model and recipe, on the test set."""
    latest = published.latest()
    columns: list[Column[PublishedVersion]] = [
        Column("version", lambda version: code(version.key), numeric=False),
        Column("recipe", lambda version: plain(version.recipe), numeric=False),
        Column("most frequent confusions: true → predicted, images", _mistakes, numeric=False),
    ]
    pictures = [picture(f"Confusion matrix of {version.key}", _name(version)) for version in latest]
    return Section(
        "Confusion matrices",
        ["Rows are true classes, columns are predicted classes.", table(columns, latest), "\n".join(pictures)],
        {_name(version): svg(_figure(version)) for version in latest},
    )


def _name(version: PublishedVersion) -> str:
    return f"confusion_matrix_{version.slug}"


def _mistakes(version: PublishedVersion) -> str:
    labels = version.labels
    return ", ".join(
        f"{plain(labels[true])} → {plain(labels[given])} {images}"
        for true, given, images in most_frequent_confusions(_matrix(version), MISTAKES)
    )


def _matrix(version: PublishedVersion) -> list[list[int]]:
    return confusion_matrix_of(version.folder, version.metadata, version.test)


def _figure(version: PublishedVersion) -> Any:
    figure = new_figure(5.6, 5.6)
    axes = figure.subplots()
    draw_confusion_matrix(axes, _matrix(version), version.labels)
    axes.set_title(f"{version.title}\n{version.test.correct:,} of {version.test.n:,} correct", fontsize=11)
    return figure
