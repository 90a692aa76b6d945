"""A seventh architecture: a file that the command line names, or one registered function."""

from pathlib import Path

import pytest

from training import own_architectures
from training.build import build, to_export
from training.data import Dimensions
from training.errors import ArchitectureError, RecipeError
from training.own_architectures import find, load_file, register
from training.recipes import Recipe, get_recipe, with_changes_named, with_field

DIMENSIONS = Dimensions((24, 24, 3), 4)
NETWORK = """
import keras

def build(input_shape, class_count):
    return keras.Sequential([
        keras.Input(input_shape),
        keras.layers.Conv2D(4, 3, strides=4, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(class_count, activation="softmax", dtype="float32"),
    ])

def logits(input_shape, class_count):
    return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(class_count)])

def fixed(input_shape, class_count):
    return build((32, 32, 3), 10)

def nothing(input_shape, class_count):
    raise KeyError("width")

value = 3
"""


@pytest.fixture(autouse=True)
def _nothing_stays_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_architectures, "_registered", {})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "my_net.py").write_text(NETWORK)
    return tmp_path / "my_net.py"


def test_function_of_a_named_file_is_built_for_any_size_and_classes(file: Path) -> None:
    architecture = load_file(f"{file}:build")
    recipe = get_recipe("tuned", architecture.name)
    assert (recipe.model, recipe.architecture_sha256) == ("my_net.py:build", architecture.sha256)
    model = build(recipe, DIMENSIONS)
    assert (model.input_shape, model.output_shape) == ((None, 24, 24, 3), (None, 4))
    assert load_file(str(file)).name == "my_net.py:build"


def test_network_trained_in_bfloat16_is_exported_in_float32(file: Path) -> None:
    recipe = with_field(get_recipe("tuned", load_file(str(file)).name), "precision", "mixed_bfloat16")
    trained = build(recipe, DIMENSIONS)
    exported = to_export(trained, recipe, DIMENSIONS)
    assert {layer.compute_dtype for layer in exported.layers} == {"float32"}
    for one, other in zip(trained.get_weights(), exported.get_weights(), strict=True):
        assert (one == other).all()


def test_recipe_of_a_file_is_published_with_its_hash_and_read_again(file: Path) -> None:
    recipe = get_recipe("tuned", load_file(str(file)).name)
    assert Recipe.model_validate(recipe.published()) == recipe
    assert "architecture_sha256" not in get_recipe("tuned", "sequential").published()
    assert with_changes_named(with_field(recipe, "epochs", 3)).published()["changed"] == ["epochs"]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("logits", r"the answers of my_net.py:logits are no probabilities.*softmax"),
        ("fixed", "building my_net.py:fixed raises ValueError"),
        ("nothing", "building my_net.py:nothing raises KeyError"),
    ],
)
def test_function_that_builds_no_classifier_says_why(file: Path, function: str, reason: str) -> None:
    recipe = get_recipe("tuned", load_file(f"{file}:{function}").name)
    with pytest.raises(ArchitectureError, match=reason):
        build(recipe, DIMENSIONS)


def test_function_that_forgets_to_return_its_model_is_named(file: Path) -> None:
    file.write_text("def build(input_shape, class_count): pass")
    with pytest.raises(ArchitectureError, match=r"my_net.py:build returns NoneType. Expected: a keras.Model"):
        build(get_recipe("tuned", load_file(str(file)).name), DIMENSIONS)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("{file}:absent", "has no function absent"),
        ("{file}:value", "has no function value"),
        ("{file}x:build", "no file .*my_net.pyx"),
        ("{folder}:build", "a folder"),
        ("{broken}:build", "running .*broken.py raises ZeroDivisionError: division by zero"),
        ("{quits}:build", "running .*quits.py raises SystemExit: 3"),
        ("{wordy}:build", "running .*wordy.py raises RuntimeError: first second. Expected"),
    ],
)
def test_file_that_can_not_be_used_says_why(file: Path, spec: str, reason: str) -> None:
    broken = file.with_name("broken.py")
    broken.write_text("1 / 0")
    quits = file.with_name("quits.py")
    quits.write_text("raise SystemExit(3)")
    wordy = file.with_name("wordy.py")
    wordy.write_text("raise RuntimeError('first\\nsecond')")
    with pytest.raises(ArchitectureError, match=reason):
        load_file(spec.format(file=file, folder=file.parent, broken=broken, quits=quits, wordy=wordy))


def test_file_may_define_data_classes(file: Path) -> None:
    lines = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Width:\n    n: int\n"
    )
    file.write_text(lines + file.read_text())
    assert build(get_recipe("tuned", load_file(str(file)).name), DIMENSIONS).output_shape == (None, 4)


def test_file_in_the_package_needs_only_a_registered_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import training.architectures

    line = 'from training.own_architectures import register\n@register("tiny", title="Tiny", description="one layer")'
    (tmp_path / "tiny.py").write_text(NETWORK.replace("def build", f"{line}\ndef build"))
    monkeypatch.setattr(own_architectures, "FOLDER", tmp_path)
    monkeypatch.setattr(training.architectures, "__path__", [*training.architectures.__path__, str(tmp_path)])
    recipe = get_recipe("tuned", "tiny")
    assert build(recipe, DIMENSIONS).output_shape == (None, 4)
    found = find("tiny")
    assert found is not None
    assert (found.title, found.description, found.sha256) == ("Tiny", "one layer", None)


def test_registered_recipe_goes_before_the_default() -> None:
    def quick(model: str) -> Recipe:
        return get_recipe("tutorial", "sequential").model_copy(update={"name": "quick", "model": model})

    register("mine", title="Mine", recipes={"quick": quick})(lambda _shape, _classes: None)
    assert get_recipe("quick", "mine").model == "mine"
    with pytest.raises(RecipeError, match=r"no recipe 'quik' for mine \(did you mean 'quick'\?\)"):
        get_recipe("quik", "mine")
    with pytest.raises(ArchitectureError, match="an own architecture with the name vgg16"):
        register("vgg16", title="VGG")(lambda _shape, _classes: None)
