"""Recipes: one immutable object with every hyper-parameter, for each model and recipe name.

`tutorial` reproduces a 2023 tutorial exactly. `tuned` is ours and aims at the highest accuracy from the labels alone.
`distilled` trains the small CNNs on the transfer models' answers. Every field is stored in the metadata.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from cifar10_serving.text import did_you_mean
from training.cifar10 import MODEL_NAMES, SMALL_CNNS, TRANSFER_MODELS
from training.errors import RecipeError
from training.own_architectures import OwnArchitecture, find
from training.recipes import distilled
from training.recipes.own import own_architecture
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
    "for_image_size",
    "for_pictures",
    "get_recipe",
    "held_out",
    "smoke",
    "with_backbone_weights",
    "with_changes_named",
    "with_field",
    "with_seed",
    "without_flips",
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
OWN_RECIPES: Final[dict[str, Callable[[str], Recipe]]] = {"tuned": own_architecture, "tutorial": tutorial}
"""Defaults of an architecture beside the six."""
RECIPE_SIDE: Final = 32
"""Side in pixels of the images for which the recipes were made."""
SMOKE_EPOCHS: Final = 2
WORDS: Final = (IMAGENET, NO_WEIGHTS)


def get_recipe(name: str, model: str) -> Recipe:
    """Return the recipe with this name for this model.

    Raises:
        RecipeError: there is no such recipe or model.
    """
    if model not in MODEL_NAMES:
        own = find(model)
        if own is None:
            raise RecipeError(
                f"no model '{model}'{did_you_mean(model, MODEL_NAMES)}", expected=f"one of {', '.join(MODEL_NAMES)}"
            )
        return _own_recipe(name, own)
    if name not in RECIPES:
        raise RecipeError(f"no recipe '{name}'{did_you_mean(name, RECIPES)}", expected=f"one of {', '.join(RECIPES)}")
    recipes = RECIPES[name]
    if model not in recipes:
        raise RecipeError(f"no recipe '{name}' for {model}", expected=f"one of the models {', '.join(recipes)}")
    return recipes[model](model)


def _own_recipe(name: str, own: OwnArchitecture) -> Recipe:
    recipes = OWN_RECIPES | dict(own.recipes)
    if name not in recipes:
        raise RecipeError(
            f"no recipe '{name}' for {own.name}{did_you_mean(name, recipes)}", expected=f"one of {', '.join(recipes)}"
        )
    recipe: Recipe = recipes[name](own.name)
    return recipe.model_copy(update={"architecture_sha256": own.sha256})


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


def with_field(recipe: Recipe, field: str, value: Any) -> Recipe:
    """Return the recipe with another value of a field.

    Raises:
        RecipeError: the value is not allowed, or doesn't go with the other fields.
    """
    try:
        return Recipe.model_validate(recipe.model_dump() | {field: value})
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        raise RecipeError(f"{field} {value} for the recipe {recipe.name} of {recipe.model}", expected=reason) from None


def for_image_size(recipe: Recipe, side: int) -> Recipe:
    """Return the recipe for square images of this side: what it says in pixels grows with them.

    A network that enlarges its images takes larger ones as they are.

    Raises:
        RecipeError: the model takes no images that small.
    """
    if recipe.model in TRANSFER_MODELS and side < RECIPE_SIDE and recipe.upsample_to is None:
        raise RecipeError(
            f"images of {side} pixels for {recipe.model} with the recipe {recipe.name}",
            expected=f"at least {RECIPE_SIDE} pixels, which the backbone needs",
            remedy=f"give --image-size {RECIPE_SIDE} or more",
        )
    if side == RECIPE_SIDE:
        return recipe
    changes: dict[str, Any] = {}
    if recipe.augmentation is not None:
        pixels = {
            name: round(getattr(recipe.augmentation, name) * side / RECIPE_SIDE)
            for name in ("crop_padding_pixels", "cutout_pixels")
        }
        changes["augmentation"] = recipe.augmentation.model_copy(update=pixels)
    if recipe.upsample_to is not None and recipe.upsample_to < side:
        changes["upsample_to"] = side
    return recipe.model_copy(update=changes)


def for_pictures(recipe: Recipe, side: int) -> Recipe:
    """Return the recipe for pictures other than CIFAR-10's: square, of this side, and of any content.

    A tenth of them is held out for validation, and the temperature is theirs to find. The small CNNs of `tuned` train
    with folded batch normalization: without it, their learning rate suits images like CIFAR-10's alone. On
    scikit-learn's digits (`fit sequential --no-flip --precision float32`) the loss was NaN in epoch 9 without it; with
    it, and `--epochs 30`, the test accuracy is 0.997.

    Raises:
        RecipeError: the model takes no images that small.
    """
    recipe = for_image_size(recipe, side)
    changes: dict[str, Any] = {"temperature": 1.0}
    if recipe.model in SMALL_CNNS and recipe.optimizer == "sgd":
        changes["batch_normalization"] = "folded"
    return held_out(recipe).model_copy(update=changes)


def without_flips(recipe: Recipe) -> Recipe:
    """Return the recipe without mirrored images, for pictures such as digits."""
    if recipe.augmentation is None:
        return recipe
    return recipe.model_copy(update={"augmentation": recipe.augmentation.model_copy(update={"flip": False})})


def with_changes_named(recipe: Recipe) -> Recipe:
    """Return the recipe with the names of the fields that differ from the recipe of its name."""
    original = get_recipe(recipe.name, recipe.model)
    names = [name for name in Recipe.model_fields if getattr(recipe, name) != getattr(original, name)]
    return recipe.model_copy(update={"changed": tuple(name for name in names if name != "changed")})


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
