"""A head trained on kept features against one with the frozen backbone in the loop; the backbone is a small one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cifar10_serving.artifacts.layout import version_folder
from tests.training.conftest import on_its_test_images
from tests.training.small_backbones import small_backbone
from training.architectures.transfer import BACKBONES
from training.data import Dataset
from training.errors import CheckpointError
from training.export import export
from training.fit import TrainedModel, fit
from training.progress import Lines
from training.recipes import Recipe, get_recipe, with_backbone_weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def backbone() -> Iterator[None]:
    """Build a small network in place of VGG16."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setitem(BACKBONES, "vgg16", small_backbone("vgg16"))
        yield


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random backbone in Keras' own format, its kernels He-normal so that the images leave it distinguishable."""
    keras.utils.set_random_seed(5)
    backbone = BACKBONES["vgg16"](include_top=False, weights=None, input_shape=(32, 32, 3))
    for weights in backbone.weights:
        if weights.name == "kernel":
            weights.assign(keras.initializers.HeNormal(seed=keras.random.SeedGenerator())(weights.shape))
    file = tmp_path_factory.mktemp("weights") / "vgg16.weights.h5"
    backbone.save_weights(file)
    return file


def short_recipe(weights_file: Path, **changes: Any) -> Recipe:
    recipe = with_backbone_weights(get_recipe("tutorial", "vgg16"), str(weights_file))
    return recipe.model_copy(update={"epochs": 3, "batch_size": 32} | changes)


@pytest.fixture(scope="module")
def features_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def trained(weights_file: Path, features_folder: Path, small_cifar10: Dataset) -> TrainedModel:
    return fit(short_recipe(weights_file), small_cifar10, features_folder=features_folder)


def test_head_is_the_same_as_with_the_backbone_in_the_loop(
    trained: TrainedModel, weights_file: Path, small_cifar10: Dataset
) -> None:
    recipe = short_recipe(weights_file, frozen_features="computed_every_step")
    in_the_loop = fit(recipe, small_cifar10)
    assert trained.history[-1].loss < trained.history[0].loss
    for one, other in zip(trained.model.get_weights(), in_the_loop.model.get_weights(), strict=True):
        assert np.allclose(one, other, rtol=0, atol=1e-4)
    assert [entry.val_loss for entry in trained.history] == pytest.approx(
        [entry.val_loss for entry in in_the_loop.history], abs=1e-4
    )


def test_features_are_kept_and_used_by_the_next_run(
    trained: TrainedModel,
    weights_file: Path,
    features_folder: Path,
    small_cifar10: Dataset,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (file,) = features_folder.iterdir()
    assert np.load(file, mmap_mode="r").shape == (128, 64)
    again = fit(short_recipe(weights_file), small_cifar10, features_folder=features_folder, progress=Lines())
    assert f"using cached features in {file}" in capsys.readouterr().out
    for one, other in zip(trained.model.get_weights(), again.model.get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_other_data_has_its_own_features_and_a_damaged_file_is_computed_again(
    trained: TrainedModel, weights_file: Path, features_folder: Path, small_cifar10: Dataset
) -> None:
    (file,) = features_folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    again = fit(short_recipe(weights_file, epochs=1), small_cifar10, features_folder=features_folder)
    assert file.read_bytes() == whole
    assert again.history[0].loss == trained.history[0].loss
    fit(short_recipe(weights_file, epochs=1), on_its_test_images(small_cifar10), features_folder=features_folder)
    assert len(list(features_folder.iterdir())) == 2


def test_folder_that_can_not_be_written_to_is_a_clear_error(
    weights_file: Path, small_cifar10: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match=r"can't write .*vgg16-features-.*--checkpoints"):
        fit(short_recipe(weights_file), on_its_test_images(small_cifar10), features_folder=tmp_path / "file")


@pytest.mark.usefixtures("quick_plots")
def test_recipe_with_weights_from_a_file_is_published_with_their_name_and_digest(
    trained: TrainedModel, weights_file: Path, small_cifar10: Dataset, tmp_path: Path
) -> None:
    metadata = export(trained, small_cifar10, tmp_path, command="pytest")
    assert metadata.parameters.trainable < metadata.parameters.total
    assert metadata.recipe["backbone_weights"] == weights_file.name
    assert metadata.training_run.backbone_sha256 == trained.backbone_sha256
    assert str(weights_file.parent) not in (version_folder(tmp_path, "vgg16", 1) / "metadata.json").read_text()
    assert metadata.export.max_abs_difference_from_keras < 5e-2
