"""Measures a published version again and compares with what its metadata says.

Every stored evaluation is repeated with the same runtime, precision and split, where this machine has them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cifar10_serving.artifacts.layout import read_metadata, verify
from cifar10_serving.artifacts.metadata import Evaluation, ModelMetadata, SplitName
from cifar10_serving.errors import RuntimeUnavailableError
from cifar10_serving.runtimes.golden import check_golden
from cifar10_serving.runtimes.selection import open_runtime
from training.data import Cifar10, Split, split_validation
from training.errors import DatasetError
from training.evaluate import evaluate

SHARE_OF_IMAGES: Final = 0.001
LOSS_DIFFERENCE: Final = 0.001
"""Another processor rounds otherwise, which may move an image that lies between two classes; more is another model."""


@dataclass(frozen=True)
class Comparison:
    """A stored evaluation and the same one measured now; `now` is None where this machine can't, for `reason`."""

    stored: Evaluation
    now: Evaluation | None
    reason: str = ""

    @property
    def matches(self) -> bool:
        """Whether both agree up to what another processor's rounding may change."""
        if self.now is None:
            return True
        images = abs(self.now.correct - self.stored.correct)
        loss = abs(self.now.loss - self.stored.loss)
        return images <= SHARE_OF_IMAGES * self.stored.n and loss <= LOSS_DIFFERENCE * max(1.0, self.stored.loss)


def remeasure(folder: Path, data: Cifar10) -> list[Comparison]:
    """Repeat every stored evaluation of the version in a folder.

    Raises:
        ArtifactError: the version is not whole.
        ModelLoadError: it can't be loaded, or its golden answers are wrong.
        DatasetError: the data is not what it was evaluated on.
    """
    metadata = read_to_measure(folder, data)
    splits = stored_splits(metadata, data)
    return [_repeat(stored, folder, metadata, splits[stored.split]) for stored in metadata.evaluations]


def read_to_measure(folder: Path, data: Cifar10) -> ModelMetadata:
    """The metadata of a whole version that was evaluated on this data.

    Raises:
        ArtifactError: the version is not whole.
        DatasetError: the data is not what it was evaluated on.
    """
    metadata = read_metadata(folder)
    verify(folder, metadata)
    if data.sha256 != metadata.dataset.sha256:
        raise DatasetError(
            f"the data has SHA-256 {data.sha256[:12]}…",
            expected=f"{metadata.dataset.sha256[:12]}…, "
            f"on which {metadata.name} version {metadata.version} was evaluated",
        )
    return metadata


def stored_splits(metadata: ModelMetadata, data: Cifar10) -> dict[SplitName, Split]:
    """The splits of the data that a version can have been evaluated on, by their names."""
    recipe = metadata.recipe
    _, validation = split_validation(data.train, fraction=recipe["validation_fraction"], seed=recipe["split_seed"])
    return {"test": data.test, "validation": validation}


def _repeat(stored: Evaluation, folder: Path, metadata: ModelMetadata, split: Split) -> Comparison:
    try:
        runtime = open_runtime(stored.runtime, stored.device, stored.precision)
    except RuntimeUnavailableError as error:
        return Comparison(stored, None, str(error))
    model = runtime.load(folder)
    check_golden(model, folder, metadata, stored.precision)
    now, _ = evaluate(runtime, model, split, stored.split)
    return Comparison(stored, now)
