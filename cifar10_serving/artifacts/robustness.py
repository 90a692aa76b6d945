"""The schema of a robustness table: a version's accuracy on corrupted pictures, stored next to its folder.

A version never changes after it is published, so later measurements are in `models/<name>/` under a name of their own.
"""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from cifar10_serving.artifacts.documents import DocumentError, parse_document
from cifar10_serving.artifacts.files import read_regular
from cifar10_serving.artifacts.metadata import (
    Count,
    ModelName,
    Precision,
    Probability,
    Record,
    RuntimeName,
    Sha256,
    Version,
)

MAX_ROBUSTNESS_BYTES: Final = 2**20


class CorruptedResult(Record):
    """Results for one corruption at one strength, on the test images."""

    corruption: str
    strength: Annotated[int, Field(ge=1, le=3)]
    parameter: Annotated[float, Field(description="what the strength means for this corruption")]
    parameter_name: str
    correct: Count
    accuracy: Probability


class Robustness(Record):
    """A version's accuracy on the original test images, and on each corruption of them."""

    schema_version: Literal[1] = 1
    name: ModelName
    version: Version
    runtime: RuntimeName
    runtime_version: str
    precision: Precision
    dataset_sha256: Sha256
    n: Annotated[int, Field(ge=1, description="test images")]
    clean_accuracy: Probability
    results: list[CorruptedResult]
    mean_accuracy: Annotated[Probability, Field(description="over all corruptions and strengths")]


def read_robustness(models: Path, name: str, version: int) -> Robustness | None:
    """Return the table of a version; None if there is no readable one."""
    file = robustness_file(models, name, version)
    try:
        return parse_document(read_regular(file.parent, file.name, max_bytes=MAX_ROBUSTNESS_BYTES), Robustness)
    except (OSError, DocumentError):
        return None


def robustness_file(models: Path, name: str, version: int) -> Path:
    """Return the path of a version's table, whether it exists or not."""
    return models / name / f"robustness-{version}.json"
