"""Read a file of labels: one a line, in the order of the model's outputs."""

from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from cifar10_serving.artifacts.metadata import MAX_CLASSES, MAX_LABEL, Label
from training.errors import ModelImportError

MAX_LABELS_BYTES: Final = MAX_CLASSES * (4 * MAX_LABEL + 2)
_LABEL: Final[TypeAdapter[str]] = TypeAdapter(Label)


def read_labels(file: Path) -> list[str]:
    """Return the labels in a UTF-8 text file; blank lines at the end don't count.

    Raises:
        ModelImportError: it can't be read, a line is not a label, or a label is repeated.
    """
    try:
        if file.stat().st_size > MAX_LABELS_BYTES:
            raise ModelImportError(f"{file} is too large for a file of labels", expected="one label a line")
        text = file.read_text("utf-8-sig")
    except OSError as error:
        raise ModelImportError(
            f"{file} can't be read: {error.strerror}", expected="a text file with one label a line"
        ) from None
    except UnicodeDecodeError:
        raise ModelImportError(
            f"{file} is not a text file in UTF-8", expected="a text file with one label a line"
        ) from None
    lines = [line.strip() for line in text.rstrip().split("\n")]
    if lines == [""]:
        raise ModelImportError(f"{file} is empty", expected="one label a line, in the order of the model's outputs")
    numbers: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        try:
            _LABEL.validate_python(line)
        except ValidationError as error:
            problem = "is blank" if not line else f"is not a label: {error.errors()[0]['msg']}"
            raise ModelImportError(f"line {number} of {file} {problem}", expected="one label a line") from None
        if line in numbers:
            raise ModelImportError(
                f"lines {numbers[line]} and {number} of {file} are both '{line}'",
                expected="each label once, in the order of the model's outputs",
            )
        numbers[line] = number
    return lines


def check_label_count(labels: list[str], output_count: int, origin: str) -> None:
    """Check that there is a label for each class.

    Args:
        labels: the labels.
        output_count: number of values that the model gives for each image; 1 is a binary model of two classes.
        origin: where the labels come from, for the error.

    Raises:
        ModelImportError: the numbers differ.
    """
    classes = 2 if output_count == 1 else output_count
    if len(labels) == classes:
        return
    outputs = "1 output for 2 classes" if output_count == 1 else f"{output_count:,} outputs"
    raise ModelImportError(
        f"{origin} has {len(labels):,} labels, but the model has {outputs}",
        expected=f"{classes:,} labels, one a line, in the order of the outputs",
    )
