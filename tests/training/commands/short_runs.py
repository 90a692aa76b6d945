"""The command line with a data set of 64 real images and shorter recipes: the rest is what a user runs."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from tests.training.commands import training_command
from tests.training.commands.training_command import Finished
from tests.training.conftest import golden_images
from training import data, recipes

IMAGES: Final = 128


def shorten(epochs: int) -> None:
    """Have every run of this process be a short one."""
    data.load_cifar10 = _load_golden_images
    changes = {"epochs": epochs, "batch_size": 32, "warmup_epochs": 0}
    for name in ("tutorial", "tuned"):
        recipes.RECIPES[name] = {model: _changed(make, changes) for model, make in recipes.RECIPES[name].items()}


def _load_golden_images(folder: Path | None) -> data.Dataset:
    split = golden_images()
    return data.cifar10_dataset(split.take(np.arange(IMAGES) % len(split)), split, "golden images", "0" * 64)


def _changed(make: Callable[[str], recipes.Recipe], changes: dict[str, int]) -> Callable[[str], recipes.Recipe]:
    return lambda model: make(model).model_copy(update=changes)


def run(epochs: int, *arguments: object, stdout: io.TextIOBase | None = None) -> Finished:
    """Run a command of the training command line in this process, which has TensorFlow already."""
    with pytest.MonkeyPatch.context() as changed:  # and is changed back
        changed.setattr(data, "load_cifar10", data.load_cifar10)
        changed.setattr(recipes, "RECIPES", dict(recipes.RECIPES))
        shorten(epochs)
        return training_command.run(*arguments, stdout=stdout)
