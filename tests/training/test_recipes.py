import pytest
from pydantic import ValidationError

from catalog.labels import MODEL_NAMES
from training.errors import RecipeError
from training.recipes import get_recipe


@pytest.mark.parametrize("model", list(MODEL_NAMES))
def test_tutorial_is_the_published_recipe(model: str) -> None:
    recipe = get_recipe("tutorial", model)
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer, recipe.learning_rate) == (20, 128, "adam", 0.001)
    assert (recipe.validation_fraction, recipe.split_seed, recipe.input_scaling) == (0.2, 83, "divide_by_255")
    assert recipe.data_order == "reshuffled_each_epoch"


def test_each_style_has_its_own_seed() -> None:
    seeds = [get_recipe("tutorial", model).seed for model in ("sequential", "functional", "subclassing")]
    assert seeds == [83, 84, 85]


def test_unknown_model_and_recipe_name_what_there_is() -> None:
    with pytest.raises(RecipeError, match=r"no model 'lenet'. Expected: one of sequential"):
        get_recipe("tutorial", "lenet")
    with pytest.raises(RecipeError, match=r"no recipe 'best'. Expected: one of tutorial"):
        get_recipe("best", "sequential")


def test_recipe_can_not_be_changed() -> None:
    recipe = get_recipe("tutorial", "sequential")
    with pytest.raises(ValidationError):
        recipe.epochs = 1  # type: ignore[misc]  # that is the point
