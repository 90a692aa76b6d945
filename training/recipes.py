"""What is trained, and how: one readable, immutable object for each model and recipe.

`tutorial` is the published recipe of a 2023 tutorial to the letter. Every field goes into the metadata.
"""

from collections.abc import Callable
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from catalog.labels import MODEL_NAMES, ModelName
from training.architectures import small_cnn
from training.errors import RecipeError
from training.preprocessing import InputScaling

RecipeName = Literal["tutorial"]


class Recipe(BaseModel):
    """Every hyper-parameter of a run; what is not here is Keras' default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: RecipeName
    model: ModelName
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    optimizer: Literal["adam"]
    learning_rate: float = Field(gt=0)
    loss: Literal["sparse_categorical_crossentropy"] = "sparse_categorical_crossentropy"
    input_scaling: InputScaling
    validation_fraction: float = Field(gt=0, lt=1)
    split_seed: int
    seed: int = Field(ge=0, lt=2**32)
    data_order: Literal["reshuffled_each_epoch", "one_order_repeated"] = "reshuffled_each_epoch"
    """Keras 2 drew a new order in every epoch; Keras 3's `fit` on arrays repeats one. See docs/training.md."""
    jit_compile: bool
    """XLA. Keras 3 turns it on by itself; Keras 2, which the tutorial ran on, did not."""


ARCHITECTURES: Final[dict[ModelName, Callable[[], Any]]] = {
    "sequential": small_cnn.sequential,
    "functional": small_cnn.functional,
    "subclassing": small_cnn.subclassing,
}
"""Model name -> a new `keras.Model` with its weights drawn from the global seed."""


def tutorial(model: ModelName) -> Recipe:
    """Adam with its defaults, batch 128, 20 epochs, no augmentation, no early stopping, last weights kept.

    python -m training fit sequential --recipe tutorial --data FOLDER --models models

    The tutorial sets its seed 83 once and builds one model after the other, so each has its own draws. Here a
    run stands alone, and one seed would give all three styles the very same weights; hence 83, 84, 85, … in the
    order of `catalog.labels.MODEL_NAMES`. The tutorial reports 0.70 to 0.71 on the test set; what this
    repository reached is in models/<name>/1/metadata.json, with wall time, hardware and versions.
    """
    return Recipe(
        name="tutorial",
        model=model,
        epochs=20,
        batch_size=128,
        optimizer="adam",
        learning_rate=0.001,
        input_scaling="divide_by_255",
        validation_fraction=0.2,
        split_seed=83,
        seed=83 + MODEL_NAMES.index(model),
        jit_compile=False,
    )


RECIPES: Final[dict[RecipeName, Callable[[ModelName], Recipe]]] = {"tutorial": tutorial}


def get_recipe(name: str, model: str) -> Recipe:
    """The recipe with this name for this model.

    Raises:
        RecipeError: no such recipe or model, or no architecture here for the model.
    """
    known_model = next((known for known in MODEL_NAMES if known == model), None)
    if known_model not in ARCHITECTURES:
        raise RecipeError(f"no architecture for model '{model}'", expected=f"one of {', '.join(ARCHITECTURES)}")
    known_recipe = next((known for known in RECIPES if known == name), None)
    if known_recipe is None:
        raise RecipeError(f"no recipe '{name}'", expected=f"one of {', '.join(RECIPES)}")
    return RECIPES[known_recipe](known_model)


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """The same recipe with another seed.

    Raises:
        RecipeError: the seed is not legal.
    """
    try:
        return Recipe.model_validate(recipe.model_dump() | {"seed": seed})
    except ValidationError:
        raise RecipeError(f"seed {seed}", expected="a whole number from 0 to 4,294,967,295") from None
