from pathlib import Path

import numpy as np
import pytest

from cifar10_serving.artifacts.layout import read_metadata, version_folder
from cifar10_serving.runtimes.openvino import OpenVinoRuntime
from tests.conftest import MODELS
from tests.training.conftest import golden_images, on_its_test_images
from training.build import exported_network
from training.data import CIFAR_DIMENSIONS, Dataset
from training.errors import ExportError, RecipeError
from training.export import export
from training.fit import fit
from training.preprocessing import scale
from training.recalibrate import at_todays_temperature
from training.recipes import RECIPES, Recipe, get_recipe
from training.saved_model import read_weights
from training.temperature import at_temperature

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("quick_plots")
def test_version_is_published_again_with_the_same_weights_at_its_recipes_temperature(
    small_cifar10: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = get_recipe("tuned", "functional").model_copy(
        update={"epochs": 1, "batch_size": 64, "precision": "float32", "temperature": 1.0, "warmup_epochs": 0.5}
    )
    first = export(fit(before, on_its_test_images(small_cifar10)), small_cifar10, tmp_path, command="pytest")

    def hotter(_model: str) -> Recipe:
        return before.model_copy(update={"temperature": 2.0})

    monkeypatch.setitem(RECIPES["tuned"], "functional", hotter)
    trained = at_todays_temperature(version_folder(tmp_path, "functional", 1), small_cifar10)
    second = export(trained, small_cifar10, tmp_path, command="pytest")
    assert (second.version, second.recipe["temperature"]) == (2, 2.0)
    assert second.training_run.history == first.training_run.history
    assert second.training_run.started_at == first.training_run.started_at
    images = small_cifar10.test.pixels
    answers = [OpenVinoRuntime().load(version_folder(tmp_path, "functional", n)).predict(images) for n in (1, 2)]
    np.testing.assert_allclose(answers[1], at_temperature(answers[0], 2.0), atol=1e-5)

    with pytest.raises(RecipeError, match="functional version 2 already has the temperature 2"):
        at_todays_temperature(version_folder(tmp_path, "functional", 2), small_cifar10)


@pytest.mark.parametrize(("name", "version"), [("subclassing", 2), ("mobilenetv2", 1)])
def test_weights_of_a_published_version_are_read_back(name: str, version: int) -> None:
    folder = version_folder(MODELS, name, version)
    recipe = Recipe.model_validate(read_metadata(folder).recipe)
    model = exported_network(recipe, CIFAR_DIMENSIONS)
    read_weights(model, recipe.input_scaling, CIFAR_DIMENSIONS, folder)
    images = golden_images().images[:8]
    expected = OpenVinoRuntime().load(folder).predict(images)
    answers = model(scale(images, recipe.input_scaling), training=False)
    np.testing.assert_allclose(answers, expected, atol=1e-3)


def test_another_network_is_a_clear_error() -> None:
    model = exported_network(get_recipe("tuned", "vgg16"), CIFAR_DIMENSIONS)
    with pytest.raises(ExportError, match=r"sequential.2 contains another network than VGG16_Model"):
        read_weights(model, "standardize", CIFAR_DIMENSIONS, version_folder(MODELS, "sequential", 2))
