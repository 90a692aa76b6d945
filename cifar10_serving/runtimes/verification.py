"""Verify published versions as the service does at every load, and load them.

The service's loader, `python -m service check` and `python -m training verify` call these functions, so a version that
passes a check is one that the service loads with the same runtime.
"""

import logging
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cifar10_serving.artifacts.layout import (
    published_models,
    published_versions,
    read_metadata,
    verify,
    version_folder,
)
from cifar10_serving.artifacts.metadata import NAME_PATTERN, ModelMetadata, Precision
from cifar10_serving.artifacts.rollout import SERVING_FILE, read_rollout
from cifar10_serving.errors import ProjectError, RolloutError
from cifar10_serving.runtimes.base import LoadedModel, Runtime
from cifar10_serving.runtimes.golden import check_golden
from cifar10_serving.text import printable

GOLDEN_IMAGES: Final = 16
"""A wrong build, weight or precision shows in every image; all golden images of a large network take half a second."""
DEFAULT_MAX_ACCURACY_DROP: Final = 0.001
ROUNDING: Final = 1e-9
WORTH_REDUCING: Final = 0.9
"""Part of float32's time that a reduced precision may take at most; less gain is not worth other answers."""
NOT_MEASURED: Final = "not measured"
HEADER: Final = ("version", "result", "labels", "input", "serves in", "test accuracy", "golden", "load")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckedModel:
    """A model that passed the golden check, and its largest difference of a probability."""

    model: LoadedModel
    difference: float

    @property
    def image_s(self) -> float:
        """The time per image; infinite if the runtime did not measure it."""
        return self.model.image_s or math.inf


def load_checked(
    folder: Path, metadata: ModelMetadata, runtime: Runtime, *, max_accuracy_drop: float = DEFAULT_MAX_ACCURACY_DROP
) -> CheckedModel:
    """Load a version in each precision that may serve and is not known to be slower; return the best.

    That is the fastest one, or float32 if no other is clearly faster.

    Args:
        folder: a version that `cifar10_serving.artifacts.layout.verify` accepts.
        max_accuracy_drop: maximum loss of stored test accuracy, compared with float32, for a faster precision.

    Raises:
        ProjectError: it can't be loaded in any of them.
    """
    choices, are_measured = _accurate_enough(metadata, runtime, max_accuracy_drop), False
    if len(choices) > 1:  # to look for a measurement, the runtime reads the whole graph
        known_s = {precision: runtime.measured_image_s(folder, precision) for precision in choices}
        are_measured = None not in known_s.values()
        if are_measured:
            choices.sort(key=lambda precision: _handicapped(precision, known_s[precision] or 0.0))
    best: CheckedModel | None = None
    for number, precision in enumerate(choices, 1):
        try:
            model = runtime.load(folder, precision)
            loaded = CheckedModel(model, check_golden(model, folder, metadata, precision, max_images=GOLDEN_IMAGES))
        except ProjectError as error:
            if best is None and number == len(choices):
                raise
            logger.warning("%s does not serve in %s: %s", folder, precision, error)
            continue
        if best is None or _handicapped_s(loaded) < _handicapped_s(best):
            best = loaded
        if are_measured:
            break
    if best is None:
        raise AssertionError("a version without a precision was loaded")
    return best


def _handicapped_s(loaded: CheckedModel) -> float:
    return _handicapped(loaded.model.precision, loaded.image_s)


def _handicapped(precision: Precision, image_s: float) -> float:
    """Return the time per image, for float32 only the part that a reduced precision has to beat."""
    return WORTH_REDUCING * image_s if precision == "float32" else image_s


def _accurate_enough(metadata: ModelMetadata, runtime: Runtime, max_accuracy_drop: float) -> list[Precision]:
    """Return float32, and the precisions whose stored accuracy is not too far below; or the only one there is."""
    first, *others = runtime.precisions
    reference = metadata.evaluation("test", first, runtime.name)
    lowest = reference.accuracy - max_accuracy_drop - ROUNDING if reference is not None else math.inf
    evaluations = {precision: metadata.evaluation("test", precision, runtime.name) for precision in others}
    return [first] + [
        precision for precision, found in evaluations.items() if found is not None and found.accuracy >= lowest
    ]


@dataclass(frozen=True)
class VersionCheck:
    """The result for one version: `problem` is None if the service would load it."""

    name: str
    problem: str | None = None
    metadata: ModelMetadata | None = None
    precision: Precision | None = None
    test_accuracy: float | None = None
    difference: float | None = None
    load_time_s: float | None = None

    def row(self) -> tuple[str, ...]:
        """Return the cells below `HEADER`."""
        result = "ok" if self.problem is None else "FAILED"
        if self.metadata is None:
            return self.name, result, *[""] * (len(HEADER) - 2)
        height, width, _ = self.metadata.input_shape
        described = (self.name, result, f"{self.metadata.class_count:,}", f"{height}x{width}")
        if self.difference is None or self.load_time_s is None:
            return *described, *[""] * (len(HEADER) - len(described))
        accuracy = NOT_MEASURED if self.test_accuracy is None else f"{self.test_accuracy:.4f}"
        return (
            *described,
            self.precision or "",
            accuracy,
            f"{self.difference:.1e}",
            f"{self.load_time_s * 1000:,.0f} ms",
        )


def check_version(
    folder: Path, runtime: Runtime, *, max_accuracy_drop: float = DEFAULT_MAX_ACCURACY_DROP
) -> VersionCheck:
    """Verify a version's metadata and files, load it, and check its golden answers, as the service does."""
    place = folder.absolute()
    name = f"{place.parent.name}/{place.name}"
    metadata = None
    start_s = time.monotonic()
    try:
        metadata = read_metadata(folder)
        verify(folder, metadata)
        loaded = load_checked(folder, metadata, runtime, max_accuracy_drop=max_accuracy_drop)
    except (ProjectError, OSError) as error:
        return VersionCheck(name, str(error), metadata)
    except Exception as error:  # noqa: BLE001  # one broken version must not hide the others
        return VersionCheck(name, f"{type(error).__name__}: {error}", metadata)
    precision = loaded.model.precision
    evaluation = metadata.evaluation("test", precision, runtime.name)
    return VersionCheck(
        name,
        None,
        metadata,
        precision,
        evaluation.accuracy if evaluation is not None else None,
        loaded.difference,
        time.monotonic() - start_s,
    )


def check_published(
    models: Path, runtime: Runtime, *, max_accuracy_drop: float = DEFAULT_MAX_ACCURACY_DROP
) -> Iterator[VersionCheck]:
    """Yield the result for every published version, and for each serving.json that is not valid.

    Raises:
        OSError: the folder can't be read.
    """
    for name in published_models(models):
        if not re.fullmatch(NAME_PATTERN, name, re.IGNORECASE):  # which the service ignores
            continue
        versions = published_versions(models, name)
        for version in versions:
            folder = version_folder(models, name, version)
            yield check_version(folder, runtime, max_accuracy_drop=max_accuracy_drop)
        problem = _rollout_problem(models, name, versions)
        if problem is not None:
            yield VersionCheck(f"{name}/{SERVING_FILE}", problem)


def report_lines(checks: list[VersionCheck]) -> list[str]:
    """Return a table of the results, and the reason of each failure below it."""
    rows = [[printable(cell) for cell in cells] for cells in (HEADER, *(check.row() for check in checks))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    failed = [check for check in checks if check.problem is not None]
    reasons = [printable(f"{check.name}: {check.problem}") for check in failed]
    total = f"{len(checks) - len(failed)} of {len(checks)} passed"
    return [*lines, "", *reasons, total]


def _rollout_problem(models: Path, name: str, versions: list[int]) -> str | None:
    try:
        rollout = read_rollout(models, name)
        if rollout is not None:
            rollout.check_published(name, versions)
    except RolloutError as error:
        return str(error)
    return None
