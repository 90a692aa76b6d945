"""Pictures in folders named by class, as a test set: accuracy and confusion matrix, beside the stored accuracy."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from cifar10_serving.artifacts.labels import CLASS_COUNT, CLASS_NAMES
from cifar10_serving.artifacts.metadata import Evaluation
from cifar10_serving.client.commands.exit_codes import CommandLineError
from cifar10_serving.client.commands.output import aligned
from cifar10_serving.schemas import Prediction

NORMAL_95_PERCENT: Final = 1.959964
SHOWN_LETTERS: Final = 5


def true_label(path: Path) -> str | None:
    """The class that the nearest folder above a file is named by; None where none is."""
    return next((part for part in reversed(path.absolute().parts[:-1]) if part in CLASS_NAMES), None)


def check_labels(paths: Iterable[Path]) -> None:
    """Whether every file is in a folder named by a class.

    Raises:
        CommandLineError: one is not; names the folder, and the class that it may mean.
    """
    outside = [path for path in paths if true_label(path) is None]
    if not outside:
        return
    folder = outside[0].absolute().parent.name
    close = get_close_matches(folder.lower(), CLASS_NAMES, n=1)
    raise CommandLineError(
        f"{len(outside)} of the files are not in a folder named by a class; the first is {outside[0]}",
        expected=f"folders named {', '.join(CLASS_NAMES)}",
        remedy=f"did you mean '{close[0]}' instead of '{folder}'?" if close else "",
    )


@dataclass
class Tally:
    """How often which class was found for which, and by which version."""

    matrix: list[list[int]] = field(default_factory=lambda: [[0] * CLASS_COUNT for _ in range(CLASS_COUNT)])
    """Row = true class, column = predicted class."""
    versions: Counter[tuple[str, int]] = field(default_factory=Counter)

    def add(self, label: str, prediction: Prediction) -> None:
        """One more answer."""
        self.matrix[CLASS_NAMES.index(label)][prediction.class_id] += 1
        self.versions[prediction.model, prediction.version] += 1

    @property
    def n(self) -> int:
        """Images counted."""
        return sum(map(sum, self.matrix))

    @property
    def correct(self) -> int:
        """Those whose most probable class is their folder's."""
        return sum(self.matrix[label][label] for label in range(CLASS_COUNT))


StoredEvaluation = tuple[str, int, Evaluation | None]
"""A model, its version, and what was measured of it at publishing; None where that can't be had."""


def evaluation_record(tally: Tally, stored: Iterable[StoredEvaluation]) -> dict[str, object]:
    """An evaluation of at least one image, for programs."""
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
            {"model": model, "version": version, "accuracy": found.accuracy, "n": found.n}
            for model, version, found in stored
            if found is not None
        ],
    }


def evaluation_lines(tally: Tally, stored: Iterable[StoredEvaluation]) -> list[str]:
    """An evaluation of at least one image, for people."""
    low, high = wilson_interval(tally.correct, tally.n)
    header = ["true \\ predicted", *(name[:SHOWN_LETTERS] for name in CLASS_NAMES)]
    rows = [[name, *(str(count or ".") for count in row)] for name, row in zip(CLASS_NAMES, tally.matrix, strict=True)]
    counts = f"{tally.correct:,} of {tally.n:,} images, 95 % interval {low:.4f} to {high:.4f}"
    return [
        *aligned([header, *rows], right=frozenset(range(1, CLASS_COUNT + 1))),
        "",
        f"accuracy {tally.correct / tally.n:.4f}: {counts}",
        *(_stored_line(*entry) for entry in stored),
    ]


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n (Wilson 1927), which holds for few images too."""
    share, z = correct / n, NORMAL_95_PERCENT
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _stored_line(model: str, version: int, stored: Evaluation | None) -> str:
    if stored is None:
        return f"no stored accuracy for {model} version {version}"
    return (
        f"stored   {stored.accuracy:.4f}: {stored.correct:,} of {stored.n:,} images of CIFAR-10's test set, "
        f"{model} version {version} in {stored.precision}"
    )
