"""Recipes: one immutable object with every hyper-parameter, for each model and recipe name.

`tutorial` reproduces a 2023 tutorial exactly. `tuned` is ours and aims at the highest accuracy from the labels alone.
`distilled` trains the small CNNs on the transfer models' answers. Every field is stored in the metadata.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from cifar10_serving.text import did_you_mean
from training.cifar10 import MODEL_NAMES, SMALL_CNNS
from training.errors import RecipeError
from training.recipes import distilled
from training.recipes.recipe import (
    HELD_OUT_FRACTION,
    IMAGENET,
    NO_WEIGHTS,
    Augmentation,
    Distillation,
    Recipe,
)
from training.recipes.tuned import mobilenetv2, resnet50v2, small_cnn, vgg16
from training.recipes.tutorial import tutorial

__all__ = [
    "RECIPES",
    "Augmentation",
    "Distillation",
    "Recipe",
    "get_recipe",
    "held_out",
    "smoke",
    "with_backbone_weights",
    "with_seed",
]

RECIPES: Final[dict[str, dict[str, Callable[[str], Recipe]]]] = {
    "tutorial": dict.fromkeys(MODEL_NAMES, tutorial),
    "tuned": {
        **dict.fromkeys(SMALL_CNNS, small_cnn),
        "vgg16": vgg16,
        "mobilenetv2": mobilenetv2,
        "resnet50v2": resnet50v2,
    },
    "distilled": dict.fromkeys(SMALL_CNNS, distilled.small_cnn),
}
"""Recipe name -> model name -> function that returns the recipe."""
SMOKE_EPOCHS: Final = 2
WORDS: Final = (IMAGENET, NO_WEIGHTS)


def get_recipe(name: str, model: str) -> Recipe:
    """Return the recipe with this name for this model.

    Raises:
        RecipeError: there is no such recipe or model.
    """
    if model not in MODEL_NAMES:
        raise RecipeError(
            f"no model '{model}'{did_you_mean(model, MODEL_NAMES)}", expected=f"one of {', '.join(MODEL_NAMES)}"
        )
    if name not in RECIPES:
        raise RecipeError(f"no recipe '{name}'{did_you_mean(name, RECIPES)}", expected=f"one of {', '.join(RECIPES)}")
    recipes = RECIPES[name]
    if model not in recipes:
        raise RecipeError(f"no recipe '{name}' for {model}", expected=f"one of the models {', '.join(recipes)}")
    return recipes[model](model)


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """Return the recipe with another seed.

    Raises:
        RecipeError: the seed is out of range.
    """
    return _changed(recipe, "seed", seed, expected="a whole number from 0 to 4,294,967,295")


def with_backbone_weights(recipe: Recipe, weights: str) -> Recipe:
    """Return the recipe with other initial weights of the backbone: `imagenet`, `none`, or a file's path.

    Raises:
        RecipeError: the model has no backbone, or the file doesn't exist.
    """
    if recipe.backbone_weights is None:
        raise RecipeError(
            f"backbone weights for {recipe.model}, which has no backbone",
            expected="a transfer model: vgg16, mobilenetv2 or resnet50v2",
        )
    if weights not in WORDS:
        file = Path(weights).expanduser()
        if not file.is_file():
            raise RecipeError(
                f"'{weights}' is {'a folder' if file.is_dir() else 'no file'}{did_you_mean(weights, WORDS)}",
                expected="imagenet, none, or a file with weights of this backbone, saved by Keras",
            )
        weights = str(file)
    return _changed(recipe, "backbone_weights", weights, expected="imagenet, none, or the path of a file")


def held_out(recipe: Recipe) -> Recipe:
    """Return the recipe with a tenth of the training images held out for validation, unless it already has some."""
    if recipe.validation_fraction:
        return recipe
    return recipe.model_copy(update={"validation_fraction": HELD_OUT_FRACTION})


def smoke(recipe: Recipe) -> Recipe:
    """Return the recipe reduced to a few epochs, to test with a few hundred images whether it runs."""
    epochs = min(recipe.epochs, SMOKE_EPOCHS)
    return recipe.model_copy(
        update={"smoke": True, "epochs": epochs, "warmup_epochs": min(recipe.warmup_epochs, epochs / 2)}
    )


def _changed(recipe: Recipe, field: str, value: Any, *, expected: str) -> Recipe:
    try:
        return Recipe.model_validate(recipe.model_dump() | {field: value})
    except ValidationError:
        raise RecipeError(f"{field} {value}", expected=expected) from None
