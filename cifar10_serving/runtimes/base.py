"""The Protocols of a runtime and of a loaded model, and computing in batches of fixed sizes.

The service uses only this part of a runtime.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from cifar10_serving.artifacts.metadata import Precision, RuntimeName

Images = NDArray[np.uint8]
Probabilities = NDArray[np.float32]

DEFAULT_MAX_BATCH_SIZE: Final = 32


class LoadedModel(Protocol):
    """One loaded version. `predict` may be called from several threads at the same time."""

    @property
    def precision(self) -> Precision:
        """The numeric precision in which it computes."""
        ...

    @property
    def image_s(self) -> float | None:
        """The time per image in batches of 8 when all cores compute, in seconds; None if it was not measured."""
        ...

    @property
    def parallel_calls(self) -> int:
        """Number of concurrent calls that make sense; more would wait for one another."""
        ...

    @property
    def warm_up_rows(self) -> tuple[int, ...]:
        """Batch sizes to compute once before the first request, ascending."""
        ...

    def predict(self, images: Images) -> Probabilities:
        """Return probabilities (batch, classes) float32 of images (batch, height, width, 3) uint8 RGB 0..255."""
        ...

    def predict_alone(self, images: Images) -> Probabilities:
        """Return the same if nothing else is computed meanwhile, so that all cores may work on it."""
        ...


class Runtime(Protocol):
    """A framework on a device, opened once per process."""

    @property
    def name(self) -> RuntimeName:
        """The framework."""
        ...

    @property
    def version(self) -> str:
        """The framework's version."""
        ...

    @property
    def device(self) -> str:
        """The device: `cpu`, or `gpu:N`."""
        ...

    @property
    def precision(self) -> Precision:
        """The precision of `load` without one."""
        ...

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """All precisions that a version may be loaded in."""
        ...

    def measured_image_s(self, folder: Path, precision: Precision) -> float | None:
        """Return `LoadedModel.image_s` as an earlier load on this machine measured it, if that is known."""
        ...

    def load(self, folder: Path, precision: Precision | None = None) -> LoadedModel:
        """Load the SavedModel in a version's folder, if its graph only computes.

        Args:
            precision: one of `precisions`; None for `precision`.

        Raises:
            cifar10_serving.errors.ArtifactError: there is none, or its graph has an op that does more than compute.
            cifar10_serving.errors.ModelLoadError: the framework can't load it; the message has the framework's error.
        """
        ...


def batch_sizes(max_batch_size: int) -> tuple[int, ...]:
    """Return the powers of two below `max_batch_size`, and that itself: at most half of a padded batch is padding."""
    powers = (2**exponent for exponent in range(max_batch_size.bit_length()))
    return (*(power for power in powers if power < max_batch_size), max_batch_size)


def compute_in_sizes(
    compute: Callable[[Images], Probabilities], images: Images, sizes: tuple[int, ...]
) -> Probabilities:
    """Return the results of `compute` for images (batch, height, width, 3) uint8, using only batches of these sizes.

    Args:
        compute: returns (batch, classes) float32 for (batch, height, width, 3) uint8.
        sizes: batch sizes, ascending.
    """
    parts = [compute(padded)[:rows] for padded, rows in _padded(images, sizes)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _padded(images: Images, sizes: tuple[int, ...]) -> Iterator[tuple[Images, int]]:
    """Yield parts of the images, padded to one of the sizes, with the number of rows that are not padding."""
    for start in range(0, len(images), sizes[-1]):
        part = images[start : start + sizes[-1]]
        size = next(size for size in sizes if size >= len(part))
        yield np.pad(part, ((0, size - len(part)), (0, 0), (0, 0), (0, 0))) if size > len(part) else part, len(part)
