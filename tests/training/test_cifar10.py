from cifar10_serving.artifacts.tutorial import read_tutorial
from tests.conftest import MODELS
from training.architectures import ARCHITECTURES
from training.cifar10 import CLASS_NAMES, MODEL_NAMES, SMALL_CNNS, TRANSFER_MODELS, TUTORIAL_RESULTS, identity
from training.recipes import RECIPES


def test_class_names_are_cifar10s_in_the_official_order() -> None:
    assert (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ) == CLASS_NAMES


def test_there_are_the_six_models_each_with_a_title() -> None:
    assert MODEL_NAMES == ("sequential", "functional", "subclassing", "vgg16", "mobilenetv2", "resnet50v2")
    assert len({identity(name).title for name in MODEL_NAMES}) == len(MODEL_NAMES)


def test_every_model_is_a_function_of_the_registry_and_every_recipe_is_for_known_models() -> None:
    assert tuple(ARCHITECTURES) == MODEL_NAMES == (*SMALL_CNNS, *TRANSFER_MODELS)
    assert set(MODEL_NAMES) == {name for recipes in RECIPES.values() for name in recipes}


def test_the_tutorials_results_lie_beside_the_models() -> None:
    assert {name: read_tutorial(MODELS, name) for name in MODEL_NAMES} == TUTORIAL_RESULTS
