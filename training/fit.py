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
from training.data import Split, split_validation
from training.preprocessing import scale
from training.recipes import ARCHITECTURES, Recipe


@dataclass(frozen=True)
class TrainedModel:
    """A `keras.Model` after its last epoch, with the validation part that it never trained on."""

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


def fit(recipe: Recipe, train: Split, *, verbose: int = 2) -> TrainedModel:
    """Train by the recipe; `train` is divided into training and validation part as the recipe says.

    Args:
        verbose: Keras' own: 0 silent, 1 progress bar, 2 a line an epoch.
    """
    started_at = datetime.now(UTC)
    start_s = time.monotonic()
    training, validation = split_validation(train, fraction=recipe.validation_fraction, seed=recipe.split_seed)
    model = build(recipe)
    clock = _EpochClock()
    batches = ShuffledBatches(
        training,
        lambda images: scale(images, recipe.input_scaling),
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        reshuffle=recipe.data_order == "reshuffled_each_epoch",
    )
    result = model.fit(
        batches,
        validation_data=(scale(validation.images, recipe.input_scaling), validation.labels),
        validation_batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        shuffle=False,  # True would have Keras shuffle the batches once more, by a state that no epoch begins with
        callbacks=[clock, batches.epoch_callback()],
        verbose=verbose,
    )
    history = [
        EpochResult(
            epoch=index + 1, duration_s=clock.durations_s[index], **dict(zip(result.history, values, strict=True))
        )
        for index, values in enumerate(zip(*result.history.values(), strict=True))
    ]
    return TrainedModel(
        recipe=recipe,
        model=model,
        history=history,
        started_at=started_at,
        wall_time_s=time.monotonic() - start_s,
        train_n=len(training),
        validation=validation,
    )


class _EpochClock(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no type information
    def __init__(self) -> None:
        super().__init__()
        self.durations_s: list[float] = []
        self._start_s = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        self._start_s = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        self.durations_s.append(time.monotonic() - self._start_s)
