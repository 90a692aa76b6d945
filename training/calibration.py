"""Calibrate a model of pictures: the temperature is found on its validation images, which it never trained on.

The recipes' temperatures were found for CIFAR-10, so they say nothing about other data.
"""

from dataclasses import replace
from typing import Final

from training.fit import TrainedModel, answers_of
from training.progress import Progress
from training.temperature import best_temperature

MIN_IMAGES: Final = 100
"""With fewer, the temperature would say more about the choice of the images than about the model."""


def calibrated(trained: TrainedModel, progress: Progress) -> TrainedModel:
    """Return the model with the temperature that fits its validation images best; unchanged if they are too few."""
    validation = trained.validation
    if len(validation) < MIN_IMAGES:
        progress.tell(
            f"not calibrated: {len(validation):,} validation images, fewer than {MIN_IMAGES}; the temperature stays "
            f"{trained.recipe.temperature:g}"
        )
        return trained
    temperature = round(best_temperature(answers_of(trained, validation), validation.labels), 2)
    progress.tell(f"calibrated on {len(validation):,} validation images: temperature {temperature:g}")
    changed = tuple(dict.fromkeys((*trained.recipe.changed, "temperature")))
    return replace(trained, recipe=trained.recipe.model_copy(update={"temperature": temperature, "changed": changed}))
