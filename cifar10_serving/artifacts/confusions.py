"""The confusion matrices of a version with many classes, in a file of their own.

A matrix of 1,000 classes has a million counts, nearly all of them 0, and takes seconds to parse as JSON. metadata.json
is read at every start and sent to every page, so it holds matrices of up to `MAX_MATRIX_CLASSES` classes only.
`confusions.json` holds the counts of larger ones that are not 0; the service verifies the file and never parses it.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import FailFast, Field

from cifar10_serving.artifacts.documents import DocumentError, parse_document
from cifar10_serving.artifacts.files import read_regular
from cifar10_serving.artifacts.metadata import (
    MAX_MATRIX_CLASSES,
    ClassId,
    Evaluation,
    ModelMetadata,
    Precision,
    Record,
    RuntimeName,
    SplitName,
)
from cifar10_serving.errors import ArtifactCorruptError

CONFUSIONS_FILE: Final = "confusions.json"
MAX_CONFUSIONS_BYTES: Final = 32 * 2**20

Cell = tuple[ClassId, ClassId, Annotated[int, Field(ge=1)]]
"""True class, predicted class, images."""


class Confusions(Record):
    """The counts of one evaluation's confusion matrix that are not 0."""

    split: SplitName
    runtime: RuntimeName
    precision: Precision
    cells: Annotated[list[Cell], FailFast(), Field(description="[true class, predicted class, images]")]


class ConfusionsDocument(Record):
    """The content of `confusions.json`."""

    schema_version: Literal[1] = 1
    evaluations: Annotated[list[Confusions], FailFast()]


def without_large_matrices(metadata: ModelMetadata) -> ModelMetadata:
    """Return the metadata without the confusion matrices that metadata.json doesn't hold."""
    if metadata.class_count <= MAX_MATRIX_CLASSES:
        return metadata
    evaluations = [entry.model_copy(update={"confusion_matrix": []}) for entry in metadata.evaluations]
    return metadata.model_copy(update={"evaluations": evaluations})


def write_confusions(metadata: ModelMetadata, folder: Path) -> None:
    """Write the matrices that metadata.json doesn't hold into a version's folder; nothing if there is none.

    Raises:
        OSError: the folder can't be written to.
    """
    if metadata.class_count <= MAX_MATRIX_CLASSES:
        return
    found = [
        Confusions(split=entry.split, runtime=entry.runtime, precision=entry.precision, cells=_cells(matrix))
        for entry in metadata.evaluations
        if (matrix := entry.confusion_matrix)
    ]
    if found:
        (folder / CONFUSIONS_FILE).write_text(f"{ConfusionsDocument(evaluations=found).model_dump_json()}\n")


def confusion_matrix_of(folder: Path, metadata: ModelMetadata, evaluation: Evaluation) -> list[list[int]]:
    """Return the confusion matrix of an evaluation in a version's metadata; empty if it was not stored.

    Raises:
        ArtifactCorruptError: `confusions.json` can't be read, or is not what was published.
    """
    if evaluation.confusion_matrix or CONFUSIONS_FILE not in metadata.files:
        return evaluation.confusion_matrix
    key = (evaluation.split, evaluation.runtime, evaluation.precision)
    for entry in _read(folder, metadata).evaluations:
        if (entry.split, entry.runtime, entry.precision) == key:
            matrix = [[0] * metadata.class_count for _ in metadata.labels]
            for true, predicted, images in entry.cells:
                matrix[true][predicted] = images
            return matrix
    return []


def _cells(matrix: list[list[int]]) -> list[Cell]:
    return [(true, predicted, n) for true, row in enumerate(matrix) for predicted, n in enumerate(row) if n]


def _read(folder: Path, metadata: ModelMetadata) -> ConfusionsDocument:
    file = folder / CONFUSIONS_FILE
    try:
        content = read_regular(folder, CONFUSIONS_FILE, max_bytes=MAX_CONFUSIONS_BYTES)
        document = parse_document(content, ConfusionsDocument)
    except (OSError, DocumentError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ArtifactCorruptError(f"{file} can't be read: {reason}", remedy="restore the version") from None
    classes = {place for entry in document.evaluations for cell in entry.cells for place in cell[:2]}
    is_published = hashlib.sha256(content).hexdigest() == metadata.files[CONFUSIONS_FILE].sha256
    if not is_published or max(classes, default=0) >= metadata.class_count:
        raise ArtifactCorruptError(f"{file} is not what was published", remedy="restore the version")
    return document
