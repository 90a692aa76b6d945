"""Train a model by its recipe: data in, trained Keras model and history out.

`training.build` builds the model, `training.evaluate` measures it, `training.export` publishes it.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cifar10_serving.artifacts.metadata import EpochResult, Parameters
from cifar10_serving.runtimes.base import Probabilities
from training.architectures.transfer import BACKBONES, backbone_of, divide
from training.augmentation import augment
from training.backend import compiles
from training.batches import Batches, EpochData, Preprocessing, ShuffledBatches
from training.build import build, compile_for_training, to_export, weights_sha256
from training.checkpoint import Checkpoint
from training.data.dataset import Dataset, Labels, Split, StoredImages, split_rows
from training.distillation import TaughtViews
from training.environment import Environment
from training.errors import DivergedError
from training.evaluate import evaluation_batch
from training.features import frozen_features
from training.preprocessing import scale
from training.progress import Progress
from training.recipes import Recipe


@dataclass(frozen=True)
class TrainedModel:
    """A `keras.Model` after its last epoch, computing in float32, and the images that it never trained on.

    `started_at` and `wall_time_s` cover the whole run with all processes of a resumed run: the epochs, and the
    features unless an earlier run had computed them. `environment` describes the process that ran the last epoch.
    `backbone_sha256` is the hash of a transfer model's initial backbone weights.
    """

    recipe: Recipe
    model: Any
    history: list[EpochResult]
    started_at: datetime
    wall_time_s: float
    train_n: int
    validation: Split
    parameters: Parameters
    environment: Environment
    backbone_sha256: str | None = None


def answers_of(trained: TrainedModel, split: Split) -> Probabilities:
    """Return the Keras model's probabilities (n, classes) float32 for the images of a split, in order."""
    trained.model.compile(jit_compile=compiles(trained.recipe))
    size = evaluation_batch(split.input_shape)
    scaled = Batches(split.images, partial(scale, scaling=trained.recipe.input_scaling), batch_size=size)
    return np.asarray(trained.model.predict(scaled, verbose=0), np.float32)


@dataclass(frozen=True)
class _Task:
    """The training job: the whole model on images, or its head on features. `inputs` covers all rows.

    `preprocess` makes a training batch, `preprocess_validation` a validation batch.
    """

    model: Any
    inputs: StoredImages | NDArray[np.float32]
    preprocess: Preprocessing
    preprocess_validation: Callable[[Any], NDArray[np.float32]]
    preparation_s: float = 0.0
    of_epoch: EpochData | None = None
    """Returns the inputs and targets of an epoch, if they differ between epochs."""


def fit(
    recipe: Recipe,
    data: Dataset,
    *,
    checkpoint: Checkpoint | None = None,
    features_folder: Path | None = None,
    models: Path | None = None,
    progress: Progress | None = None,
) -> TrainedModel:
    """Train by the recipe, which also says how `data.train` is split into training and validation images.

    Args:
        recipe: every hyper-parameter.
        data: gives the size of the images and the number of classes; its test images are not used.
        checkpoint: saves the state after each epoch. A run resumes from a saved state.
        features_folder: caches a frozen backbone's features or the teachers' answers for the next run. None computes
            them in every run.
        models: the published versions, for a recipe with teachers.
        progress: is notified of the progress.

    Raises:
        CheckpointError: the state or the features can't be read or written.
        BackboneWeightsError: the backbone's initial weights can't be loaded.
        ArtifactError: a teacher is not published, or is incomplete.
    """
    begin = checkpoint or _Unkept()
    progress = progress or Progress()
    train, dimensions = data.train, data.dimensions
    finished = checkpoint is not None and checkpoint.epochs_done() == recipe.epochs
    training_rows, validation_rows = split_rows(len(train), fraction=recipe.validation_fraction, seed=recipe.split_seed)
    validation = train.take(validation_rows)
    model = build(recipe, dimensions)
    if recipe.model in BACKBONES:
        begin.backbone_sha256 = weights_sha256(backbone_of(model))
    if recipe.computes_features_once:
        task = _head_on_features(model, recipe, train, folder=features_folder, progress=progress)
    elif recipe.distillation is not None and not finished:
        views = TaughtViews(
            train.pixels, recipe, labels=data.labels, models=models or Path("models"), folder=features_folder
        )
        task = replace(
            _whole_model(model, recipe, train), preparation_s=views.prepare(progress), of_epoch=views.of_epoch
        )
    else:
        task = _whole_model(model, recipe, train)
    compile_for_training(task.model, recipe, train_n=len(training_rows))
    recorder = _EpochRecorder(checkpoint, progress, recipe, train_n=len(training_rows))
    recorder.history = checkpoint.restore(task.model) if checkpoint else []
    begin.preparation_s = begin.preparation_s or task.preparation_s
    if recorder.history:
        progress.tell(f"resuming after epoch {len(recorder.history)} of {recipe.epochs}")
    targets = _targets(train.labels, recipe, dimensions.class_count)
    batches = ShuffledBatches(
        task.inputs,
        targets,
        task.preprocess,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        reshuffle=recipe.data_order == "reshuffled_each_epoch",
        rows=training_rows,
        of_epoch=task.of_epoch,
    )
    held_out = Batches(
        task.inputs, task.preprocess_validation, targets, batch_size=recipe.batch_size, rows=validation_rows
    )
    task.model.fit(
        batches,
        validation_data=held_out if len(validation) else None,
        initial_epoch=len(recorder.history),
        epochs=recipe.epochs,
        shuffle=False,  # True would shuffle the batches again, from a random state that a resumed run doesn't have
        callbacks=[batches.epoch_callback(), recorder],
        verbose=0,
    )
    exported = to_export(model, recipe, dimensions)
    return TrainedModel(
        recipe=recipe,
        model=exported,
        history=recorder.history,
        started_at=begin.started_at,
        wall_time_s=begin.preparation_s + sum(entry.duration_s for entry in recorder.history),
        train_n=len(training_rows),
        validation=validation,
        parameters=_parameters(exported),
        environment=begin.environment,
        backbone_sha256=begin.backbone_sha256,
    )


def _whole_model(model: Any, recipe: Recipe, train: Split) -> _Task:
    def preprocess(images: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.float32]:
        if recipe.augmentation is not None:
            images = augment(images, recipe.augmentation, random)
        return scale(images, recipe.input_scaling)

    return _Task(model, train.images, preprocess, partial(scale, scaling=recipe.input_scaling))


def _head_on_features(model: Any, recipe: Recipe, train: Split, *, folder: Path | None, progress: Progress) -> _Task:
    backbone, head = divide(model)
    kept = frozen_features(backbone, train.images, recipe, folder=folder, progress=progress)

    def unchanged(features: NDArray[np.float32], _random: np.random.Generator | None = None) -> NDArray[np.float32]:
        return features

    return _Task(head, kept.values, unchanged, unchanged, kept.duration_s)


def _targets(labels: Labels, recipe: Recipe, class_count: int) -> Labels | NDArray[np.float32]:
    if recipe.loss == "categorical_crossentropy":
        return np.eye(class_count, dtype=np.float32)[labels]
    return labels


def _parameters(model: Any) -> Parameters:
    trainable = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    return Parameters(total=model.count_params(), trainable=trainable)


class _Unkept:
    """Start time and environment of a run without a checkpoint."""

    def __init__(self) -> None:
        self.started_at = datetime.now(UTC)
        self.preparation_s = 0.0
        self.environment = Environment.here()
        self.backbone_sha256: str | None = None


class _EpochRecorder(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no type information
    """Records the history, saves the checkpoint after each epoch, and reports progress."""

    def __init__(self, checkpoint: Checkpoint | None, progress: Progress, recipe: Recipe, *, train_n: int) -> None:
        super().__init__()
        self.history: list[EpochResult] = []
        self._checkpoint = checkpoint
        self._progress = progress
        self._recipe = recipe
        self._train_n = train_n
        self._start_s = 0.0
        self.async_safe = True  # otherwise Keras waits for each step's metrics, and a GPU for the next step's images

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        self._progress.start("training", self._train_n * (self._recipe.epochs - len(self.history)))

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        size = self._recipe.batch_size
        self._progress.advance(min(size, self._train_n - batch * size))

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        self._start_s = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        figures = {name: value for name, value in (logs or {}).items() if name in EpochResult.model_fields}
        self.history.append(EpochResult(epoch=epoch + 1, duration_s=time.monotonic() - self._start_s, **figures))
        if not math.isfinite(self.history[-1].loss):
            raise DivergedError(
                f"the loss of epoch {epoch + 1} is {self.history[-1].loss}",
                expected="a finite number",
                remedy="lower the learning rate with --learning-rate, or try another --seed",
            )
        if self._checkpoint is not None:
            self._checkpoint.save(self.model, self.history)
        self._progress.epoch(self.history[-1], self._recipe.epochs)
