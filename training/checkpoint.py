"""The state of a run after each epoch, on disk, so that a killed run goes on where it was.

One file, replaced by a rename: the weights, the optimizer's state and the history of the epochs that are done. The
data's order needs no state (training.batches), so a resumed run ends with the weights of an uninterrupted one. After
the last epoch the optimizer's state, as large as the weights, is of no more use and left out.
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
    """Where a run keeps its state.

    Also `started_at`, `preparation_s` of what came before its first epoch, the `environment` of its last, and
    `backbone_sha256` of the weights that a transfer model's backbone began with: each backend draws its own.

    Args:
        folder: holds the states of runs; made when the first is saved.
        recipe: a run is resumed by the same recipe only, seed and all.
        data_sha256: and on the same data; and from the same weights file, where the recipe names one.
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
        self.file = folder / f"{recipe.model}-{recipe.name}-{run.hexdigest()[:12]}.npz"

    def require_writable(self) -> None:
        """Find out before the first epoch whether the state can be kept.

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
        """How many epochs the kept state has behind it; 0 where there is none.

        Raises:
            CheckpointError: there is a state, and it can't be read.
        """
        if not self.file.exists():
            return 0
        with self._open() as arrays:
            return len(_history(arrays))

    def save(self, model: Any, history: list[EpochResult]) -> None:
        """Keep the state after the last epoch of `history`, all at once.

        Raises:
            CheckpointError: the folder can't be written to; the state that was there stays.
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
        """Put the state into a newly built model; the history of the epochs that are done, empty without a state.

        Raises:
            CheckpointError: there is a state, and it can't be read.
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
        """Forget the state: the run is published."""
        self.file.unlink(missing_ok=True)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            with self.file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                yield arrays
        except Exception as error:  # noqa: BLE001  # whatever is wrong with the file, the remedy is the same
            raise CheckpointError(
                f"{self.file} can't be resumed from: {error}",
                expected="the state of a run of this recipe",
                remedy="delete it to train from the start",
            ) from None

    def _not_writable(self, error: OSError) -> CheckpointError:
        return CheckpointError(
            f"can't write {self.file}: {error.strerror}",
            expected="a folder with room that this user may write to",
            remedy="make room, or give another folder with --checkpoints",
        )


def _history(arrays: Any) -> list[EpochResult]:
    return HISTORY_ADAPTER.validate_json(arrays[HISTORY].tobytes())


def _variables(model: Any, *, with_optimizer: bool) -> list[keras.Variable]:
    """Weights, random states of layers, and perhaps the optimizer's state, in an order that all backends share."""
    if not with_optimizer:
        return list(model.variables)
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]
