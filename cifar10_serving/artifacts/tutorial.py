"""The schema of tutorial.json: the result that the reproduced tutorial reports for a model.

It belongs to the model, not to one version, so it is in `models/<name>/`; only models in a tutorial have one.
"""

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from cifar10_serving.artifacts.documents import DocumentError, parse_document
from cifar10_serving.artifacts.files import read_regular
from cifar10_serving.artifacts.metadata import Count, Probability, Record

TUTORIAL_FILE: Final = "tutorial.json"
MAX_TUTORIAL_BYTES: Final = 2**14


class TutorialResult(Record):
    """A row of the tutorial's results: TensorFlow 2.10 and Keras 2, test set, after 20 epochs."""

    parameters: Count
    trainable: Count
    test_loss: Annotated[float, Field(ge=0)]
    test_accuracy: Probability


def read_tutorial(models: Path, name: str) -> TutorialResult | None:
    """Return the tutorial's result for a model; None if there is no readable file."""
    try:
        content = read_regular(models / name, TUTORIAL_FILE, max_bytes=MAX_TUTORIAL_BYTES)
        return parse_document(content, TutorialResult)
    except (OSError, DocumentError):
        return None
