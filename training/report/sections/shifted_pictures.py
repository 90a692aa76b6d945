"""How the versions do on pictures that are not as those that they learned from: noise, blur, contrast, JPEG."""

from functools import partial
from typing import Final

from cifar10_serving.artifacts.robustness import CorruptedResult, Robustness, read_robustness
from training.report.markdown import Column, code, table
from training.report.sections.section import Section
from training.report.versions import Published, PublishedVersion

TITLE: Final = "On shifted pictures"
Row = tuple[PublishedVersion, Robustness]


def shifted_pictures(published: Published) -> Section:
    """Accuracy by corruption and strength, of every version of which it was measured."""
    rows = [(version, measured) for version in published.versions if (measured := _measured(version)) is not None]
    command = code("python -m training robustness VERSION_FOLDER --data FOLDER")
    if not rows:
        return Section(TITLE, [f"Not measured; {command} does."])
    images = " or ".join(sorted({f"{measured.n:,}" for _, measured in rows}))
    text = f"Accuracy on the {images} test images, all changed in the same way, at three strengths; from {command}."
    return Section(TITLE, [text, table(_columns(rows[0][1].results), rows)])


def _measured(version: PublishedVersion) -> Robustness | None:
    return read_robustness(version.folder.parent.parent, version.metadata.name, version.metadata.version)


def _columns(results: list[CorruptedResult]) -> list[Column[Row]]:
    return [
        Column("version", lambda row: code(row[0].key), numeric=False),
        Column("as they are", lambda row: f"{row[1].clean_accuracy:.4f}"),
        *(
            Column(f"{result.corruption} {result.parameter:g}", partial(_accuracy, position=position))
            for position, result in enumerate(results)
        ),
        Column("mean", lambda row: f"{row[1].mean_accuracy:.4f}"),
    ]


def _accuracy(row: Row, position: int) -> str:
    results = row[1].results
    return f"{results[position].accuracy:.4f}" if position < len(results) else ""
