import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.training.conftest import on_its_test_images
from tests.training.small_backbones import small_backbone
from training.architectures.transfer import BACKBONES, backbone_of
from training.build import build, compile_for_training, to_export, weights_sha256
from training.data import CIFAR_DIMENSIONS, Dataset
from training.errors import BackboneWeightsError, RecipeError
from training.fit import fit
from training.recipes import Recipe, get_recipe, with_backbone_weights

pytestmark = pytest.mark.slow


def recipe(weights: object = "none", **changes: Any) -> Recipe:
    chosen = with_backbone_weights(get_recipe("tutorial", "mobilenetv2"), str(weights))
    return Recipe.model_validate(chosen.model_dump() | changes)


@pytest.fixture
def backbone(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A small network, which recipes of MobileNetV2 build, too."""
    monkeypatch.setitem(BACKBONES, "mobilenetv2", small_backbone("mobilenetv2"))
    keras.utils.set_random_seed(5)
    return BACKBONES["mobilenetv2"](include_top=False, weights=None, input_shape=(32, 32, 3))


@pytest.mark.parametrize("name", ["backbone.weights.h5", "backbone.h5"])
def test_backbone_begins_with_the_weights_of_a_file(tmp_path: Path, backbone: Any, name: str) -> None:
    if name.endswith(".weights.h5"):
        backbone.save_weights(tmp_path / name)
    else:
        backbone.save(tmp_path / name)  # the older layout, in which Keras' own ImageNet weights come
    model = build(recipe(tmp_path / name), CIFAR_DIMENSIONS)
    assert weights_sha256(backbone_of(model)) == weights_sha256(backbone)
    assert weights_sha256(backbone_of(build(recipe(), CIFAR_DIMENSIONS))) != weights_sha256(backbone)


@pytest.mark.usefixtures("backbone")
def test_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"absent.h5' is no file. Expected: imagenet, none, or a file"):
        recipe(tmp_path / "absent.h5")
    with pytest.raises(RecipeError, match=r"is a folder. Expected: imagenet, none, or a file"):
        recipe(tmp_path)
    with pytest.raises(RecipeError, match=r"'imagnet' is no file \(did you mean 'imagenet'\?\)"):
        recipe("imagnet")
    moved_since = recipe().model_copy(update={"backbone_weights": str(tmp_path / "absent.h5")})
    with pytest.raises(BackboneWeightsError, match=r"no file .*absent.h5. Expected: weights of MobileNetV2"):
        build(moved_since, CIFAR_DIMENSIONS)


@pytest.mark.parametrize(("value", "reason"), [(np.nan, "finite"), (1e30, "finite")])
def test_weights_that_no_number_comes_out_of_are_a_clear_error(
    tmp_path: Path, backbone: Any, value: float, reason: str, small_cifar10: Dataset
) -> None:
    file = tmp_path / "spoilt.weights.h5"
    kept = backbone.get_weights()
    backbone.set_weights([np.full_like(weights, value) for weights in kept])
    backbone.save_weights(file)
    backbone.set_weights(kept)
    with pytest.raises(BackboneWeightsError, match=reason):
        fit(recipe(file), on_its_test_images(small_cifar10))


@pytest.mark.usefixtures("backbone")
@pytest.mark.parametrize("content", [b"", b"not HDF5 at all"])
def test_file_that_is_no_weights_file_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "wrong.weights.h5"
    file.write_bytes(content)
    with pytest.raises(BackboneWeightsError, match="can't be loaded into MobileNetV2") as raised:
        build(recipe(file), CIFAR_DIMENSIONS)
    assert "save_weights" in raised.value.remedy


@pytest.mark.usefixtures("backbone")
def test_weights_of_another_backbone_are_a_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "vgg16.weights.h5"
    other = small_backbone("vgg16", width=9)
    other(include_top=False, weights=None, input_shape=(32, 32, 3)).save_weights(file)
    with pytest.raises(BackboneWeightsError, match="can't be loaded into MobileNetV2"):
        build(recipe(file), CIFAR_DIMENSIONS)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Point the proxy variables to a port on which nobody listens."""
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    urllib.request.install_opener(urllib.request.build_opener())  # an earlier one has the proxies of its time
    yield
    urllib.request.install_opener(None)  # so that the next request builds its own


@pytest.mark.usefixtures("no_network")
def test_imagenet_weights_that_can_not_be_had_are_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keras.src.backend.config.keras_home", lambda: str(tmp_path))  # has no earlier download
    with pytest.raises(BackboneWeightsError) as raised:
        build(get_recipe("tutorial", "vgg16"), CIFAR_DIMENSIONS)
    message = str(raised.value)
    assert "Keras could not load VGG16's ImageNet weights: URL fetch failure on https://" in message
    assert "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5" in message
    assert "--backbone-weights FILE" in message


@pytest.mark.usefixtures("backbone")
def test_head_alone_trains_in_the_tutorial_recipe_and_all_where_asked() -> None:
    frozen, free = build(recipe(), CIFAR_DIMENSIONS), build(recipe(trainable_layers="all"), CIFAR_DIMENSIONS)
    assert not backbone_of(frozen).trainable_variables
    assert len(frozen.trainable_variables) == 6
    assert len(backbone_of(free).trainable_variables) == 4


@pytest.mark.usefixtures("backbone")
def test_named_layers_train_and_the_others_do_not() -> None:
    for prefixes, names in ((("block_2",), ["block_2"]), (("block_1", "block_2"), ["block_1", "block_2"])):
        model = build(recipe(trainable_layers=prefixes), CIFAR_DIMENSIONS)
        assert [layer.name for layer in backbone_of(model).layers if layer.trainable_variables] == names


@pytest.mark.usefixtures("backbone")
def test_unknown_layer_name_names_the_close_one() -> None:
    with pytest.raises(RecipeError, match=r"no layer of MobileNetV2 begins with 'blok_2'.*block_2"):
        build(recipe(trainable_layers=("blok_2",)), CIFAR_DIMENSIONS)


def test_he_initialisation_keeps_the_signal_through_vgg16() -> None:
    images = np.random.default_rng(0).standard_normal((8, 32, 32, 3)).astype(np.float32)
    deviations = {}
    for initialization in ("keras", "he_normal"):
        chosen = with_backbone_weights(get_recipe("tutorial", "vgg16"), "none")
        model = build(chosen.model_copy(update={"initialization": initialization}), CIFAR_DIMENSIONS)
        deviations[initialization] = float(np.asarray(backbone_of(model)(images)).std())
    assert deviations["he_normal"] > 0.3
    assert deviations["keras"] < 0.1


def test_schedule_rises_and_falls_to_nothing() -> None:
    chosen = Recipe.model_validate(
        get_recipe("tutorial", "sequential").model_dump()
        | {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.1, "schedule": "cosine", "warmup_epochs": 2}
    )
    model = build(chosen, CIFAR_DIMENSIONS)
    compile_for_training(model, chosen, train_n=1280)
    optimizer = model.optimizer
    rates = []
    for step in (0, 10, 20, 110, 200):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.05, 0.0], abs=1e-6)


def test_bfloat16_model_becomes_the_same_network_in_float32() -> None:
    chosen = get_recipe("tutorial", "sequential").model_copy(update={"precision": "mixed_bfloat16"})
    model = build(chosen, CIFAR_DIMENSIONS)
    assert keras.config.dtype_policy().name == "float32"
    exact = to_export(model, chosen, CIFAR_DIMENSIONS)
    images = np.random.default_rng(0).random((16, 32, 32, 3), dtype=np.float32)
    assert {layer.compute_dtype for layer in model.layers[:-1]} == {"bfloat16"}
    assert {layer.compute_dtype for layer in exact.layers} == {"float32"}
    assert weights_sha256(model) == weights_sha256(exact)
    assert np.asarray(model(images)) == pytest.approx(np.asarray(exact(images)), abs=0.02)


def test_export_has_keras_own_layers_where_training_had_fast_ones() -> None:
    chosen = get_recipe("tuned", "mobilenetv2").model_copy(update={"upsample_to": None})
    model = build(chosen, CIFAR_DIMENSIONS)
    exported = to_export(model, chosen, CIFAR_DIMENSIONS)
    plain = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3))
    assert [type(layer) for layer in backbone_of(exported).layers] == [type(layer) for layer in plain.layers]
    pixels = np.random.default_rng(2).normal(size=(2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(exported(pixels), model(pixels), atol=1e-5)
