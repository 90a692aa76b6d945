"""What a runtime is to the rest of the project: opens a version's folder, turns images into probabilities."""

from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from catalog.metadata import Precision, RuntimeName

Images = NDArray[np.uint8]
Probabilities = NDArray[np.float32]

DEFAULT_MAX_BATCH_ROWS: Final = 32


class LoadedModel(Protocol):
    """One version, ready to compute. `predict` may be called from several threads at once."""

    @property
    def parallel_calls(self) -> int:
        """How many calls at once are worth it; more of them wait for one another."""
        ...

    @property
    def warm_up_rows(self) -> tuple[int, ...]:
        """Batch sizes to compute once before the first request, ascending."""
        ...

    def predict(self, images: Images) -> Probabilities:
        """Class probabilities (batch, 10) float32 of images (batch, 32, 32, 3) uint8 RGB 0..255."""
        ...

    def predict_alone(self, images: Images) -> Probabilities:
        """The same, for when nothing else is to be computed meanwhile: all cores may work on it."""
        ...


class Runtime(Protocol):
    """A framework on a device at a precision, opened once a process."""

    @property
    def name(self) -> RuntimeName:
        """The framework."""
        ...

    @property
    def version(self) -> str:
        """The framework's own version."""
        ...

    @property
    def device(self) -> str:
        """What computes: `cpu`, or `gpu:N`."""
        ...

    @property
    def precision(self) -> Precision:
        """What it computes in."""
        ...

    def load(self, folder: Path) -> LoadedModel:
        """Load the SavedModel in a version's folder, if its graph only computes.

        Raises:
            catalog.errors.ArtifactError: there is none, or its graph has an op that does more than compute.
            catalog.errors.ModelLoadError: the framework refuses it; its own words are in the message.
        """
        ...
