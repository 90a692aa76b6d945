import pytest
from pydantic import ValidationError

from cifar10_serving.artifacts.layout import read_metadata
from tests.conftest import MODELS
from training.cifar10 import MODEL_NAMES, SMALL_CNNS
from training.errors import RecipeError
from training.recipes import RECIPES, Recipe, for_pictures, get_recipe, held_out, smoke, with_backbone_weights

TAUGHT = {"teachers": ["vgg16/2"], "views": 2, "augmentation": {}, "cutmix_share": 0.5, "seed": 83}
SOFT = {"loss": "categorical_crossentropy"}


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


@pytest.mark.parametrize("model", ["vgg16", "mobilenetv2", "resnet50v2"])
def test_tutorial_freezes_an_imagenet_backbone(model: str) -> None:
    recipe = get_recipe("tutorial", model)
    assert (recipe.backbone_weights, recipe.trainable_layers) == ("imagenet", "head")
    assert recipe.upsample_to is None
    assert recipe.computes_features_once


def test_backbone_weights_are_for_models_with_a_backbone() -> None:
    assert with_backbone_weights(get_recipe("tutorial", "vgg16"), "none").backbone_weights == "none"
    with pytest.raises(RecipeError, match="sequential, which has no backbone"):
        with_backbone_weights(get_recipe("tutorial", "sequential"), "imagenet")


def test_mistyped_names_bring_the_close_one() -> None:
    with pytest.raises(RecipeError, match="did you mean 'sequential'"):
        get_recipe("tutorial", "sequental")
    with pytest.raises(RecipeError, match="did you mean 'tutorial'"):
        get_recipe("tutoral", "vgg16")


@pytest.mark.parametrize(
    ("model", "changes", "reason"),
    [
        ("sequential", {"upsample_to": 64}, "only for a model with a backbone"),
        ("sequential", {"label_smoothing": 0.1}, "needs the loss categorical_crossentropy"),
        ("sequential", {"warmup_epochs": 1}, "needs a schedule"),
        ("sequential", {"weight_decay": 0.1}, "needs adamw or sgd"),
        ("sequential", {"momentum": 0.9}, "needs sgd"),
        ("vgg16", {"backbone_weights": None}, "required for a model with a backbone"),
        ("vgg16", {"input_scaling": "by_eye"}, "divide_by_255"),
        ("vgg16", {"layers": "fast", "backbone_weights": "none"}, "a backbone with BatchNormalization"),
        ("mobilenetv2", {"batch_normalization": "folded", "backbone_weights": "none"}, "without BatchNormalization"),
        ("sequential", {"distillation": TAUGHT}, "needs the loss categorical_crossentropy"),
        ("sequential", {"distillation": TAUGHT | {"teachers": []}}, "at least 1 item"),
        ("sequential", {"distillation": TAUGHT | {"teachers": ["../1"]}}, "should match pattern"),
        ("sequential", {"distillation": TAUGHT} | SOFT, "validation_fraction of 0 or 0.1"),
        ("sequential", {"distillation": TAUGHT, "label_smoothing": 0.1} | SOFT, "not with label_smoothing"),
        ("vgg16", {"distillation": TAUGHT} | SOFT, "not with a frozen backbone"),
        ("vgg16", {"batch_normalization": "folded"}, "backbone_weights must be none"),
        ("vgg16", {"batch_normalization": "folded", "backbone_weights": "none"}, "trainable_layers must be all"),
        ("sequential", {"model": "lenet"}, "model: must be one of sequential, functional, subclassing, vgg16"),
    ],
)
def test_contradictory_settings_are_rejected(model: str, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Recipe.model_validate(get_recipe("tutorial", model).model_dump() | changes)


@pytest.mark.parametrize("model", list(MODEL_NAMES))
def test_smoke_is_the_same_recipe_cut_down_and_says_so(model: str) -> None:
    recipe = get_recipe("tutorial", model)
    cut = smoke(recipe)
    assert cut.smoke
    assert cut.epochs == 2
    assert cut.model_dump(exclude={"smoke", "epochs"}) == recipe.model_dump(exclude={"smoke", "epochs"})


@pytest.mark.parametrize("model", list(MODEL_NAMES))
def test_tuned_trains_on_all_images_augmented_differently_in_each_epoch(model: str) -> None:
    recipe = get_recipe("tuned", model)
    assert recipe.validation_fraction == 0
    assert recipe.augmentation is not None
    assert recipe.backbone_weights in (None, "none")


@pytest.mark.parametrize("name", ["tuned", "distilled"])
@pytest.mark.parametrize("model", ["functional", "subclassing"])
def test_our_small_cnns_differ_in_their_seed_alone(name: str, model: str) -> None:
    assert get_recipe(name, model).model_dump(exclude={"model", "seed"}) == get_recipe(name, "sequential").model_dump(
        exclude={"model", "seed"}
    )


def test_teachers_of_the_small_cnns_are_published() -> None:
    distillation = get_recipe("distilled", "sequential").distillation
    assert distillation is not None
    for teacher in distillation.teachers:
        assert read_metadata(MODELS / teacher).measured_data.name == "CIFAR-10"


def test_distilled_is_for_the_small_cnns() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'distilled' for vgg16. Expected: one of the models sequential"):
        get_recipe("distilled", "vgg16")


def test_held_out_validates_on_a_tenth_where_the_recipe_trains_on_all() -> None:
    tuned_recipe, tutorial_recipe = get_recipe("tuned", "vgg16"), get_recipe("tutorial", "vgg16")
    assert held_out(tuned_recipe) == tuned_recipe.model_copy(update={"validation_fraction": 0.1})
    assert held_out(tutorial_recipe) == tutorial_recipe


@pytest.mark.parametrize("model", list(MODEL_NAMES))
def test_tuned_recipe_for_pictures_normalizes_every_network(model: str) -> None:
    recipe = for_pictures(get_recipe("tuned", model), 32)
    assert recipe.batch_normalization == ("keras" if model in ("mobilenetv2", "resnet50v2") else "folded")
    assert (recipe.validation_fraction, recipe.temperature) == (0.1, 1)
    assert Recipe.model_validate(recipe.model_dump()) == recipe


def test_tutorial_recipe_for_pictures_stays_the_tutorials() -> None:
    assert for_pictures(get_recipe("tutorial", "sequential"), 32) == get_recipe("tutorial", "sequential")


@pytest.mark.parametrize("version", sorted(str(folder.relative_to(MODELS)) for folder in MODELS.glob("*/[0-9]*")))
def test_every_published_recipe_can_still_be_read(version: str) -> None:
    published = read_metadata(MODELS / version).recipe
    read = Recipe.model_validate(published).published()
    for now, then in ((read, published), (read["augmentation"] or {}, published.get("augmentation") or {})):
        assert {name: now[name] for name in then if name != "augmentation"} == {
            name: value for name, value in then.items() if name != "augmentation"
        }


@pytest.mark.parametrize(
    ("recipe", "name"), [*(("tuned", name) for name in MODEL_NAMES), *(("distilled", name) for name in SMALL_CNNS)]
)
def test_docstring_of_our_recipe_says_what_its_last_version_reached(recipe: str, name: str) -> None:
    docstring = RECIPES[recipe][name].__doc__
    published = [read_metadata(folder) for folder in sorted(MODELS.glob(f"{name}/[0-9]*"))]
    reached = [
        evaluation.accuracy
        for metadata in published
        if metadata.recipe["name"] == recipe
        for evaluation in metadata.evaluations
        if (evaluation.split, evaluation.runtime, evaluation.precision) == ("test", "openvino", "float32")
    ]
    assert docstring is not None
    assert f"{reached[-1]:.4f}" in docstring if reached else "No full run" in docstring
