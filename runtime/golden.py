"""The golden check: does a loaded version still answer as it did when it was published?

Catches a wrong build of a runtime, a flipped bit or a wrong precision before the first user does.
"""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from catalog.errors import ArtifactCorruptError, ModelLoadError
from catalog.labels import IMAGE_SHAPE
from catalog.metadata import ModelMetadata, Precision
from runtime.base import Images, LoadedModel, Probabilities

GOLDEN_BATCH: Final = 8
"""Images in one call: a runtime keeps the memory of the largest that it has seen."""


@dataclass(frozen=True)
class GoldenAnswers:
    """Images (n, 32, 32, 3) uint8, their labels (n,) int64, and probabilities (n, 10) float32 given at publishing."""

    images: Images
    labels: NDArray[np.int64]
    probabilities: Probabilities

    def save(self, file: Path) -> None:
        """Write as a compressed .npz."""
        np.savez_compressed(file, images=self.images, labels=self.labels, probabilities=self.probabilities)


def read_golden(file: Path) -> GoldenAnswers:
    """The golden answers of a version.

    Raises:
        ArtifactCorruptError: the file can't be read as such.
    """
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return GoldenAnswers(arrays["images"], arrays["labels"], arrays["probabilities"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ArtifactCorruptError(
            f"{file} can't be read: {error}",
            expected="images, labels and probabilities as published",
            remedy="restore the version from where it was published",
        ) from None


def check_golden(
    model: LoadedModel, folder: Path, metadata: ModelMetadata, precision: Precision, *, most_images: int | None = None
) -> float:
    """Compute the golden images; the greatest difference of a probability, if it is within the tolerance.

    Args:
        most_images: only so many of them, the first; None for all.

    Raises:
        ModelLoadError: the difference is beyond the tolerance, or none is stored for this precision.
        ArtifactCorruptError: the golden answers can't be read, or are not as many as the metadata says.
    """
    tolerance = metadata.golden.tolerance.get(precision)
    if tolerance is None:
        raise ModelLoadError(
            f"{metadata.name} version {metadata.version} was never evaluated in {precision}",
            expected=f"one of {', '.join(metadata.golden.tolerance)}",
            remedy="change the setting precision, or publish on a machine whose CPU has it",
        )
    golden = read_golden(folder / metadata.golden.file)
    if golden.images.shape != (metadata.golden.n, *IMAGE_SHAPE) or len(golden.probabilities) != metadata.golden.n:
        raise ArtifactCorruptError(
            f"{folder / metadata.golden.file} holds images of shape {golden.images.shape} "
            f"and {len(golden.probabilities)} answers",
            expected=f"{metadata.golden.n} of each",
            remedy="restore the version from where it was published",
        )
    images, probabilities = golden.images[:most_images], golden.probabilities[:most_images]
    batches = range(0, len(images), GOLDEN_BATCH)
    answers = np.concatenate([model.predict(images[first : first + GOLDEN_BATCH]) for first in batches])
    difference = float(np.abs(answers - probabilities).max())
    if not difference <= tolerance:  # NaN passes no comparison
        raise ModelLoadError(
            f"{metadata.name} version {metadata.version} answers its golden images up to {difference:.3g} away "
            "from its published probabilities",
            expected=f"at most {tolerance:.3g} in {precision}",
            remedy="the runtime or the files are not what was published: restore the version or change the runtime",
        )
    return difference
