"""The golden check: compares a loaded version's answers with those at publishing.

It detects a wrong build of a runtime, a flipped bit or a wrong precision before users do.
"""

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cifar10_serving.artifacts.files import open_regular
from cifar10_serving.artifacts.metadata import (
    CHANNELS,
    MAX_CLASSES,
    MAX_SIDE,
    MIN_CLASSES,
    MIN_SIDE,
    ModelMetadata,
    Precision,
)
from cifar10_serving.errors import ArtifactCorruptError, ModelLoadError
from cifar10_serving.runtimes.base import Images, LoadedModel, Probabilities

GOLDEN_BATCH: Final = 8
"""Images per call; a runtime keeps the memory of the largest call."""
MAX_ARRAY_BYTES: Final = 2**26
SIDES: Final = range(MIN_SIDE, MAX_SIDE + 1)
CLASS_COUNTS: Final = range(MIN_CLASSES, MAX_CLASSES + 1)
UNREADABLE: Final = (
    OSError, ValueError, KeyError, EOFError, RuntimeError, SyntaxError, MemoryError, OverflowError, struct.error,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip
"""Exceptions that zipfile and numpy raise for untrusted files."""


@dataclass(frozen=True)
class GoldenAnswers:
    """Images (n, height, width, 3) uint8, their labels (n,) int64, and the answers at publishing.

    `probabilities` are (n, classes) float32.
    """

    images: Images
    labels: NDArray[np.int64]
    probabilities: Probabilities

    def save(self, file: Path) -> None:
        """Write a compressed .npz."""
        np.savez_compressed(file, images=self.images, labels=self.labels, probabilities=self.probabilities)


def read_golden(file: Path) -> GoldenAnswers:
    """Return the golden answers of a version.

    The declared size, shape and type of each array are checked before it is unpacked, and nothing is unpickled.

    Raises:
        ArtifactCorruptError: the file is not valid.
    """
    try:
        with open_regular(file.parent, file.name) as stream, zipfile.ZipFile(stream) as archive:
            images = _read_array(archive, "images", np.dtype(np.uint8), (SIDES, SIDES, range(CHANNELS, CHANNELS + 1)))
            labels = _read_array(archive, "labels", np.dtype(np.int64), ())
            probabilities = _read_array(archive, "probabilities", np.dtype(np.float32), (CLASS_COUNTS,))
        if not len(images) == len(labels) == len(probabilities):
            raise ValueError(f"{len(images)} images, {len(labels)} labels and {len(probabilities)} answers")
    except UNREADABLE as error:
        raise ArtifactCorruptError(
            f"{file} can't be read: {(error.strerror if isinstance(error, OSError) else None) or error}",
            expected="images, labels and probabilities as published",
            remedy="restore the version from where it was published",
        ) from None
    return GoldenAnswers(images, labels, probabilities)


def _read_array(archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], row: tuple[range, ...]) -> NDArray[Any]:
    """Read an array of a non-object type; `row` has the valid sizes of all dimensions but the first."""
    member = archive.getinfo(f"{name}.npy")
    if member.file_size > MAX_ARRAY_BYTES:
        raise ValueError(f"{name} takes {member.file_size:,} bytes, more than {MAX_ARRAY_BYTES:,}")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"{name} is of the format {version}, not (1, 0)")
        shape, fortran_order, found = np.lib.format.read_array_header_1_0(stream)
        is_legal = len(shape) == len(row) + 1 and all(size in sizes for size, sizes in zip(shape[1:], row, strict=True))
        if found != dtype or fortran_order or not is_legal:
            sizes = ", ".join(
                ["n", *(f"{sizes[0]}..{sizes[-1]}" if len(sizes) > 1 else str(sizes[0]) for sizes in row)]
            )
            raise ValueError(f"{name} is {found} {shape}, not {dtype} ({sizes})")
        expected_bytes = math.prod(shape) * dtype.itemsize
        content = stream.read(expected_bytes + 1) if expected_bytes <= member.file_size else b""
    if len(content) != expected_bytes:
        raise ValueError(f"{name} holds {len(content):,} bytes, not {expected_bytes:,}")
    return np.frombuffer(content, dtype).reshape(shape)


def check_golden(
    model: LoadedModel, folder: Path, metadata: ModelMetadata, precision: Precision, *, max_images: int | None = None
) -> float:
    """Compute the golden images; return the largest difference of a probability if the answers pass.

    A precision passes by its tolerance for every probability, or by its `ClassCheck`.

    Args:
        max_images: number of images to compute, from the first; None for all.

    Raises:
        ModelLoadError: the answers don't pass, or there is no check for this precision.
        ArtifactCorruptError: the golden answers can't be read, or their number differs from the metadata.
    """
    if precision not in metadata.golden.precisions:
        raise ModelLoadError(
            f"{metadata.name} version {metadata.version} was never evaluated in {precision}",
            expected=f"one of {', '.join(metadata.golden.precisions)}",
            remedy="change the setting precision, or publish on a machine whose CPU supports it",
        )
    golden = read_golden(folder / metadata.golden.file)
    if len(golden.images) != metadata.golden.n:
        raise ArtifactCorruptError(
            f"{folder / metadata.golden.file} holds {len(golden.images)} images and answers",
            expected=f"{metadata.golden.n} of each",
            remedy="restore the version from where it was published",
        )
    held = golden.images.shape[1:], golden.probabilities.shape[1:]
    if held != (metadata.input_shape, (metadata.class_count,)):
        raise ArtifactCorruptError(
            f"{folder / metadata.golden.file} holds images {held[0]} and answers {held[1]}",
            expected=f"{metadata.input_shape} and ({metadata.class_count},), as metadata.json says",
            remedy="restore the version from where it was published",
        )
    images, probabilities = golden.images[:max_images], golden.probabilities[:max_images]
    batches = range(0, len(images), GOLDEN_BATCH)
    answers = np.concatenate([model.predict(images[first : first + GOLDEN_BATCH]) for first in batches])
    if answers.shape != probabilities.shape:
        raise ModelLoadError(
            f"{metadata.name} version {metadata.version} answers {answers.shape}",
            expected=f"{probabilities.shape}: a probability for each of its labels",
            remedy="restore the version, or publish it again",
        )
    differences = np.abs(answers - probabilities).max(axis=1)
    _check_differences(answers, probabilities, differences, metadata, precision)
    return float(differences.max())


def lead(probabilities: Probabilities) -> NDArray[np.float32]:
    """Return the lead (n,) of each row's class: the largest probability minus the second largest."""
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])


def _check_differences(
    answers: Probabilities,
    published: Probabilities,
    differences: NDArray[np.float32],
    metadata: ModelMetadata,
    precision: Precision,
) -> None:
    # The comparisons are written so that NaN fails.
    tolerance, check = metadata.golden.tolerance.get(precision), metadata.golden.classes.get(precision)
    if tolerance is not None:
        if differences.max() <= tolerance:
            return
        found = f"up to {differences.max():.3g} away from its published probabilities"
        expected = f"at most {tolerance:.3g} in {precision}"
    elif check is not None:
        changed = (answers.argmax(axis=1) != published.argmax(axis=1)) & (lead(published) > check.margin)
        if not changed.any() and differences.mean() <= check.mean_difference:
            return
        found = (
            f"{differences.mean():.3g} away from its published probabilities on average, with {changed.sum()} other "
            "classes"
        )
        expected = (
            f"at most {check.mean_difference:.3g} in {precision}, and no other class where the lead is above "
            f"{check.margin:.3g}"
        )
    raise ModelLoadError(
        f"{metadata.name} version {metadata.version} answers its golden images {found}",
        expected=expected,
        remedy="the runtime or the files are not what was published: restore the version or change the runtime",
    )
