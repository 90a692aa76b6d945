"""Evaluation on pictures in folders named by class: accuracy and confusion matrix, next to the stored accuracy."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from cifar10_serving.artifacts.metadata import Evaluation
from cifar10_serving.client.commands.exit_codes import CommandLineError
from cifar10_serving.client.commands.output import aligned
from cifar10_serving.text import printable

NORMAL_95_PERCENT: Final = 1.959964
SHOWN_LETTERS: Final = 5
MAX_COLUMNS: Final = 40
"""Limit of classes for printing a confusion matrix."""


class FolderLabels:
    """The classes that folders may be named by.

    Args:
        labels: the model's labels, in order.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self._places = {label: place for place, label in enumerate(labels)}

    def of(self, path: Path) -> str | None:
        """Return the class of the nearest folder above a file that is named by one, or None."""
        return next((part for part in reversed(path.absolute().parts[:-1]) if part in self._places), None)

    def place(self, label: str) -> int | None:
        """Return the position of a class, or None."""
        return self._places.get(label)

    def check(self, paths: Iterable[Path]) -> None:
        """Check that every file is in a folder named by a class.

        Raises:
            CommandLineError: one is not; the error names the folder, and a similar class.
        """
        outside = [path for path in paths if self.of(path) is None]
        if not outside:
            return
        folder = outside[0].absolute().parent.name
        close = get_close_matches(folder.lower(), self.labels, n=1)
        more = f" and {len(self.labels) - MAX_COLUMNS:,} more" if len(self.labels) > MAX_COLUMNS else ""
        raise CommandLineError(
            f"{len(outside)} of the files are not in a folder named by a class; the first is {outside[0]}",
            expected=f"folders named {', '.join(self.labels[:MAX_COLUMNS])}{more}",
            remedy=f"did you mean '{close[0]}' instead of '{folder}'?" if close else "",
        )


class Tally:
    """Counts of predicted classes for each true class, and by version."""

    def __init__(self, labels: FolderLabels) -> None:
        self.labels = labels.labels
        self.versions: Counter[tuple[str, int]] = Counter()
        self._place = labels.place
        self._counts: Counter[tuple[int, int]] = Counter()

    def add(self, true_label: str, model: str, version: int, label: str) -> None:
        """Count one answer.

        Raises:
            CommandLineError: its class is not a class of the other answers' version.
        """
        true, found = self._place(true_label), self._place(label)
        if true is None or found is None:
            raise CommandLineError(
                f"{model} version {version} answers '{label}', which is not a class of the first version",
                remedy="name the version: --model NAME --version N",
            )
        self._counts[true, found] += 1
        self.versions[model, version] += 1

    @property
    def matrix(self) -> list[list[int]]:
        """The confusion matrix: row = true class, column = predicted class."""
        classes = range(len(self.labels))
        return [[self._counts[true, found] for found in classes] for true in classes]

    @property
    def n(self) -> int:
        """Number of images."""
        return self._counts.total()

    @property
    def correct(self) -> int:
        """Number of images whose most probable class is their folder's."""
        return sum(count for (true, found), count in self._counts.items() if true == found)


@dataclass(frozen=True, slots=True)
class StoredEvaluation:
    """A model, its version, and its stored evaluation; None if it was not measured, or is not available."""

    model: str
    version: int
    evaluation: Evaluation | None = None
    dataset: str = ""
    is_available: bool = True


def evaluation_record(tally: Tally, stored: Iterable[StoredEvaluation]) -> dict[str, object]:
    """Return an evaluation of at least one image as JSON's types."""
    low, high = wilson_interval(tally.correct, tally.n)
    return {
        "n": tally.n,
        "correct": tally.correct,
        "accuracy": tally.correct / tally.n,
        "accuracy_95_percent": [low, high],
        "confusion_matrix": tally.matrix,
        "versions": [
            {"model": model, "version": version, "images": images}
            for (model, version), images in tally.versions.items()
        ],
        "stored": [
            {
                "model": entry.model,
                "version": entry.version,
                "accuracy": entry.evaluation.accuracy,
                "n": entry.evaluation.n,
            }
            for entry in stored
            if entry.evaluation is not None
        ],
    }


def evaluation_lines(tally: Tally, stored: Iterable[StoredEvaluation]) -> list[str]:
    """Return an evaluation of at least one image as lines of text."""
    low, high = wilson_interval(tally.correct, tally.n)
    counts = f"{tally.correct:,} of {tally.n:,} images, 95 % interval {low:.4f} to {high:.4f}"
    return [
        *_matrix_lines(tally),
        "",
        f"accuracy {tally.correct / tally.n:.4f}: {counts}",
        *(printable(_stored_line(entry)) for entry in stored),
    ]


def _matrix_lines(tally: Tally) -> list[str]:
    labels = tally.labels
    if len(labels) > MAX_COLUMNS:
        return [f"the confusion matrix of {len(labels):,} classes is only in --json"]
    header = ["true \\ predicted", *(label[:SHOWN_LETTERS] for label in labels)]
    rows = [[label, *(str(count or ".") for count in row)] for label, row in zip(labels, tally.matrix, strict=True)]
    return aligned([header, *rows], right=frozenset(range(1, len(labels) + 1)))


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of n (Wilson 1927), which also holds for few images."""
    share, z = correct / n, NORMAL_95_PERCENT
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _stored_line(entry: StoredEvaluation) -> str:
    stored = entry.evaluation
    if stored is None and entry.is_available:
        return f"{entry.model} version {entry.version} was not measured when it was published"
    if stored is None:
        return f"no stored accuracy for {entry.model} version {entry.version}"
    return (
        f"stored   {stored.accuracy:.4f}: {stored.correct:,} of {stored.n:,} images of {entry.dataset}'s test set, "
        f"{entry.model} version {entry.version} in {stored.precision}"
    )
