"""Save the state of a run after each epoch, so that a killed run can resume.

One file, replaced by a rename: weights, optimizer state and the history so far. The order of the data needs no state
(training.batches), so a resumed run ends with the same weights as an uninterrupted one. After the last epoch the
optimizer state, as large as the weights, is no longer needed and is omitted.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from pydantic import TypeAdapter

from cifar10_serving.artifacts.files import replaced_file
from cifar10_serving.artifacts.metadata import EpochResult
from training.environment import Environment
from training.errors import CheckpointError
from training.recipes import Recipe

HISTORY: Final = "history"
STARTED_AT: Final = "started_at"
PREPARATION: Final = "preparation_s"
ENVIRONMENT: Final = "environment"
BACKBONE: Final = "backbone_sha256"
HISTORY_ADAPTER: Final = TypeAdapter(list[EpochResult])
ENVIRONMENT_ADAPTER: Final = TypeAdapter(Environment)


class Checkpoint:
    """The saved state of a run.

    It includes `started_at`, `preparation_s` (time before the first epoch), the `environment` of the last epoch, and
    `backbone_sha256`, the hash of a transfer model's initial backbone weights: each backend draws its own.

    A run resumes only with the same recipe, seed, data and weights file.

    Args:
        folder: holds the states of all runs; created when the first is saved.
        recipe: the run's recipe.
        data_sha256: hash of the run's data.
    """

    def __init__(self, folder: Path, recipe: Recipe, data_sha256: str) -> None:
        run = hashlib.sha256(f"{json.dumps(recipe.published())} {data_sha256}".encode())
        if recipe.backbone_file is not None and recipe.backbone_file.is_file():
            run.update(recipe.backbone_file.read_bytes())
        self.started_at = datetime.now(UTC)
        self.preparation_s = 0.0
        self.environment = Environment.here()
        self.backbone_sha256: str | None = None
        self._epochs = recipe.epochs
        self.file = folder / f"{recipe.model.replace(':', '-')}-{recipe.name}-{run.hexdigest()[:12]}.npz"

    def require_writable(self) -> None:
        """Check before the first epoch that the state can be saved.

        Raises:
            CheckpointError: the folder can't be written to.
        """
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.file.parent):
                pass
        except OSError as error:
            raise self._not_writable(error) from None

    def epochs_done(self) -> int:
        """Return the number of finished epochs in the saved state; 0 without one.

        Raises:
            CheckpointError: the saved state can't be read.
        """
        if not self.file.exists():
            return 0
        with self._open() as arrays:
            return len(_history(arrays))

    def save(self, model: Any, history: list[EpochResult]) -> None:
        """Save the state after the last epoch of `history`, atomically.

        Raises:
            CheckpointError: the folder can't be written to; the previous state is kept.
        """
        variables = _variables(model, with_optimizer=len(history) < self._epochs)
        arrays: dict[str, Any] = {str(index): np.asarray(variable) for index, variable in enumerate(variables)}
        arrays[HISTORY] = np.frombuffer(HISTORY_ADAPTER.dump_json(history), np.uint8)
        arrays[STARTED_AT] = np.array(self.started_at.isoformat())
        arrays[PREPARATION] = np.array(self.preparation_s)
        arrays[BACKBONE] = np.array(self.backbone_sha256 or "")
        arrays[ENVIRONMENT] = np.frombuffer(ENVIRONMENT_ADAPTER.dump_json(self.environment), np.uint8)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with replaced_file(self.file) as stream:
                np.savez(stream, **arrays)
        except OSError as error:
            raise self._not_writable(error) from None

    def restore(self, model: Any) -> list[EpochResult]:
        """Load the saved state into a newly built model; return the history, empty without a saved state.

        Raises:
            CheckpointError: the saved state can't be read.
        """
        if not self.file.exists():
            return []
        with self._open() as arrays:
            history = _history(arrays)
            for index, variable in enumerate(_variables(model, with_optimizer=len(history) < self._epochs)):
                variable.assign(arrays[str(index)])
            self.started_at = datetime.fromisoformat(str(arrays[STARTED_AT]))
            self.preparation_s = float(arrays[PREPARATION])
            self.backbone_sha256 = str(arrays[BACKBONE]) or None if BACKBONE in arrays else None
            if len(history) == self._epochs:
                self.environment = ENVIRONMENT_ADAPTER.validate_json(arrays[ENVIRONMENT].tobytes())
        return history

    def discard(self) -> None:
        """Delete the state of a published run."""
        self.file.unlink(missing_ok=True)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            with self.file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                yield arrays
        except Exception as error:  # noqa: BLE001  # whatever is wrong with the file, the remedy is the same
            raise CheckpointError(
                f"can't resume from {self.file}: {error}",
                expected="the saved state of a run of this recipe",
                remedy="delete it to train from the start",
            ) from None

    def _not_writable(self, error: OSError) -> CheckpointError:
        return CheckpointError(
            f"can't write {self.file}: {error.strerror}",
            expected="a writable folder with enough free space",
            remedy="free up space, or choose another folder with --checkpoints",
        )


def _history(arrays: Any) -> list[EpochResult]:
    return HISTORY_ADAPTER.validate_json(arrays[HISTORY].tobytes())


def _variables(model: Any, *, with_optimizer: bool) -> list[keras.Variable]:
    """List weights, random states of layers and optionally the optimizer state, in the same order on all backends."""
    if not with_optimizer:
        return list(model.variables)
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]
