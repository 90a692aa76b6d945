"""Evaluate a published version again and compare with its metadata.

Every stored evaluation is repeated with the same runtime, precision and split, if this machine supports them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cifar10_serving.artifacts.layout import read_metadata, verify
from cifar10_serving.artifacts.metadata import Evaluation, ModelMetadata, SplitName
from cifar10_serving.errors import RuntimeUnavailableError
from cifar10_serving.runtimes.golden import check_golden
from cifar10_serving.runtimes.selection import open_runtime
from training.data import Dataset, Split, split_validation
from training.errors import DatasetError
from training.evaluate import evaluate

SHARE_OF_IMAGES: Final = 0.001
LOSS_DIFFERENCE: Final = 0.001
"""Another processor rounds differently, which may move an image between two classes; more means another model."""


@dataclass(frozen=True)
class Comparison:
    """A stored evaluation and its repetition; `now` is None if this machine can't repeat it, for `reason`."""

    stored: Evaluation
    now: Evaluation | None
    reason: str = ""

    @property
    def matches(self) -> bool:
        """True if both agree within the rounding differences between processors."""
        if self.now is None:
            return True
        images = abs(self.now.correct - self.stored.correct)
        loss = abs(self.now.loss - self.stored.loss)
        return images <= SHARE_OF_IMAGES * self.stored.n and loss <= LOSS_DIFFERENCE * max(1.0, self.stored.loss)


def remeasure(folder: Path, data: Dataset) -> list[Comparison]:
    """Repeat every stored evaluation of the version in a folder.

    Raises:
        ArtifactError: the version is incomplete or damaged.
        ModelLoadError: it can't be loaded, or fails its golden check.
        DatasetError: the version was evaluated on other data.
    """
    metadata = read_to_measure(folder, data)
    splits = stored_splits(metadata, data)
    return [_repeat(stored, folder, metadata, splits.get(stored.split)) for stored in metadata.evaluations]


def read_to_measure(folder: Path, data: Dataset) -> ModelMetadata:
    """Return the metadata of a version after verifying its files and its data set.

    Raises:
        ArtifactError: the version is incomplete or damaged.
        DatasetError: the version was evaluated on other data.
    """
    metadata = read_metadata(folder)
    verify(folder, metadata)
    if data.sha256 != metadata.measured_data.sha256:
        raise DatasetError(
            f"the data has SHA-256 {data.sha256[:12]}…",
            expected=f"{metadata.measured_data.sha256[:12]}…, "
            f"on which {metadata.name} version {metadata.version} was evaluated",
        )
    if metadata.input_shape != data.test.input_shape:
        raise DatasetError(
            f"the images have the shape {data.test.input_shape}",
            expected=f"{metadata.input_shape}, which {metadata.name} version {metadata.version} takes",
        )
    return metadata


def stored_splits(metadata: ModelMetadata, data: Dataset) -> dict[SplitName, Split]:
    """Return the splits that a version may have been evaluated on, by name.

    Only `test` if the recipe doesn't say how the validation images were split off.
    """
    fraction, seed = metadata.recipe.get("validation_fraction"), metadata.recipe.get("split_seed")
    if not isinstance(fraction, float | int) or not isinstance(seed, int):
        return {"test": data.test}
    _, validation = split_validation(data.train, fraction=fraction, seed=seed)
    return {"test": data.test, "validation": validation}


def _repeat(stored: Evaluation, folder: Path, metadata: ModelMetadata, split: Split | None) -> Comparison:
    if split is None:
        return Comparison(stored, None, f"the recipe doesn't say which images the {stored.split} split has")
    try:
        runtime = open_runtime(stored.runtime, stored.device, stored.precision)
    except RuntimeUnavailableError as error:
        return Comparison(stored, None, str(error))
    model = runtime.load(folder)
    check_golden(model, folder, metadata, stored.precision)
    now, _ = evaluate(runtime, model, split, stored.split, metadata.labels)
    return Comparison(stored, now)
