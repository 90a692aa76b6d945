"""Trains a model by its recipe: data in, trained Keras model and history out.

Evaluation and publishing are `training.evaluate`'s and `training.export`'s part.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import keras

from catalog.metadata import EpochResult, Parameters
from training.batches import ShuffledBatches
from training.checkpoint import Checkpoint
from training.data import Split, split_validation
from training.preprocessing import scale
from training.recipes import ARCHITECTURES, Recipe


@dataclass(frozen=True)
class TrainedModel:
    """A `keras.Model` after its last epoch, with the validation part that it never trained on.

    `wall_time_s` is the sum of the epochs', of all the processes that a resumed run took.
    """

    recipe: Recipe
    model: Any
    history: list[EpochResult]
    started_at: datetime
    wall_time_s: float
    train_n: int
    validation: Split

    @property
    def parameters(self) -> Parameters:
        """Total and trainable weights."""
        trainable = sum(int(variable.value.shape.num_elements()) for variable in self.model.trainable_variables)
        return Parameters(total=self.model.count_params(), trainable=trainable)


def build(recipe: Recipe) -> Any:
    """The recipe's model, compiled, its weights drawn from the recipe's seed."""
    keras.utils.set_random_seed(recipe.seed)
    model = ARCHITECTURES[recipe.model]()
    model.compile(
        optimizer=keras.optimizers.get(
            {"class_name": recipe.optimizer, "config": {"learning_rate": recipe.learning_rate}}
        ),
        loss=recipe.loss,
        metrics=["accuracy"],
        jit_compile=recipe.jit_compile,
    )
    return model


def fit(recipe: Recipe, train: Split, *, checkpoint: Checkpoint | None = None, verbose: int = 2) -> TrainedModel:
    """Train by the recipe; `train` is divided into training and validation part as the recipe says.

    Args:
        checkpoint: keeps the state after each epoch; where it has one already, the run goes on from there.
        verbose: Keras' own: 0 silent, 1 progress bar, 2 a line an epoch.

    Raises:
        CheckpointError: the state can't be read or kept.
    """
    started_at = datetime.now(UTC)
    training, validation = split_validation(train, fraction=recipe.validation_fraction, seed=recipe.split_seed)
    model = build(recipe)
    recorder = _EpochRecorder(checkpoint)
    recorder.history = checkpoint.restore(model) if checkpoint else []
    batches = ShuffledBatches(
        training,
        lambda images: scale(images, recipe.input_scaling),
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        reshuffle=recipe.data_order == "reshuffled_each_epoch",
    )
    model.fit(
        batches,
        validation_data=(scale(validation.images, recipe.input_scaling), validation.labels),
        validation_batch_size=recipe.batch_size,
        initial_epoch=len(recorder.history),
        epochs=recipe.epochs,
        shuffle=False,  # True would have Keras shuffle the batches once more, by a state that no epoch begins with
        callbacks=[batches.epoch_callback(), recorder],
        verbose=verbose,
    )
    return TrainedModel(
        recipe=recipe,
        model=model,
        history=recorder.history,
        started_at=started_at,
        wall_time_s=sum(entry.duration_s for entry in recorder.history),
        train_n=len(training),
        validation=validation,
    )


class _EpochRecorder(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no type information
    """Writes the history, and has the checkpoint keep the state after each epoch."""

    def __init__(self, checkpoint: Checkpoint | None) -> None:
        super().__init__()
        self.history: list[EpochResult] = []
        self._checkpoint = checkpoint
        self._start_s = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        self._start_s = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.history.append(EpochResult(epoch=epoch + 1, duration_s=time.monotonic() - self._start_s, **(logs or {})))
        if self._checkpoint is not None:
            self._checkpoint.save(self.model, self.history)
