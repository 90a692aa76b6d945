"""Accuracy of the versions on corrupted images: noise, blur, contrast, JPEG."""

from functools import partial
from typing import Final

from cifar10_serving.artifacts.robustness import Robustness, read_robustness
from training.report.markdown import Column, code, plain, table
from training.report.sections.section import Section
from training.report.versions import Published, PublishedVersion

TITLE: Final = "On corrupted images"
Row = tuple[PublishedVersion, Robustness]
Test = tuple[str, float]
"""A corruption and its parameter."""


def shifted_pictures(published: Published) -> Section:
    """List the accuracy by corruption and strength of every version for which it was measured."""
    rows = [(version, measured) for version in published.versions if (measured := _measured(version)) is not None]
    command = code("python -m training robustness VERSION_FOLDER --data FOLDER")
    if not rows:
        return Section(TITLE, [f"Not measured yet: {command} measures a version."])
    images = " or ".join(sorted({f"{measured.n:,}" for _, measured in rows}))
    text = (
        f"Accuracy on the {images} test images with each corruption at three strengths, measured by {command}. The "
        "number after a corruption is its parameter."
    )
    return Section(TITLE, [text, table(_columns(rows), rows)])


def _measured(version: PublishedVersion) -> Robustness | None:
    return read_robustness(version.folder.parent.parent, version.metadata.name, version.metadata.version)


def _columns(rows: list[Row]) -> list[Column[Row]]:
    tests: list[Test] = list(
        dict.fromkeys((result.corruption, result.parameter) for _, measured in rows for result in measured.results)
    )
    return [
        Column("version", lambda row: code(row[0].key), numeric=False),
        Column("clean", lambda row: f"{row[1].clean_accuracy:.4f}"),
        *(
            Column(f"{plain(name)} {parameter:g}", partial(_accuracy, test=(name, parameter)))
            for name, parameter in tests
        ),
        Column("mean", lambda row: f"{row[1].mean_accuracy:.4f}"),
    ]


def _accuracy(row: Row, test: Test) -> str:
    found = [result.accuracy for result in row[1].results if (result.corruption, result.parameter) == test]
    return f"{found[0]:.4f}" if found else ""
