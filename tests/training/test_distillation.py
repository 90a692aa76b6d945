"""Views and their answers; the teachers are published small CNNs, which answer in no time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar10_serving.artifacts.layout import version_folder
from cifar10_serving.errors import ArtifactError
from cifar10_serving.runtimes.base import Images, Probabilities
from cifar10_serving.runtimes.openvino import OpenVinoRuntime
from tests.conftest import MODELS
from tests.training.conftest import on_its_test_images
from training import distillation
from training.build import build, compile_for_training, to_export, weights_sha256
from training.checkpoint import Checkpoint
from training.cifar10 import CLASS_NAMES
from training.data import CIFAR_DIMENSIONS, Dataset, split_rows
from training.distillation import TaughtViews
from training.errors import CheckpointError
from training.export import export
from training.fit import fit
from training.preprocessing import scale
from training.progress import Progress
from training.recipes import Augmentation, Distillation, Recipe, get_recipe, held_out

pytestmark = pytest.mark.slow

TEACHERS = ("sequential/1", "functional/1")


def short_recipe(**changes: Any) -> Recipe:
    taught: dict[str, Any] = {"teachers": TEACHERS, "views": 2, "cutmix_share": 0.5, "seed": 83}
    for name in list(changes):
        if name in Distillation.model_fields and name != "augmentation":
            taught[name] = changes.pop(name)
    views = Distillation(augmentation=Augmentation(crop_padding_pixels=4, flip=True), **taught)
    recipe = get_recipe("distilled", "functional")
    return recipe.model_copy(update={"epochs": 3, "batch_size": 32, "distillation": views} | changes)


def views_of(images: Images, recipe: Recipe, folder: Path | None = None, models: Path = MODELS) -> TaughtViews:
    views = TaughtViews(images, recipe, labels=CLASS_NAMES, models=models, folder=folder)
    views.prepare(Progress())
    return views


class _Counting:
    """A teacher that counts the images it is asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def predict(self, images: Images) -> Probabilities:
        self.asked += len(images)
        return np.full((len(images), 10), 0.1, np.float32)


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> _Counting:
    counting = _Counting()
    monkeypatch.setattr(distillation, "_load", lambda _folder: counting)
    return counting


def test_targets_are_the_mean_of_what_the_teachers_say_to_the_view(small_cifar10: Dataset) -> None:
    views = views_of(small_cifar10.train.pixels, short_recipe())
    images, targets = views.of_epoch(1)
    answers = [
        OpenVinoRuntime().load(version_folder(MODELS, name, 1)).predict(images) for name in ("sequential", "functional")
    ]
    assert images.shape == small_cifar10.train.pixels.shape
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=5e-3)
    np.testing.assert_allclose(targets, np.mean(answers, axis=0), atol=0.05)  # kept as float16, computed in bfloat16


def test_epochs_take_the_views_in_turn_and_find_them_unchanged(small_cifar10: Dataset, teacher: _Counting) -> None:
    images = small_cifar10.train.pixels
    views = views_of(images, short_recipe(epochs=5))
    assert teacher.asked == len(images) * 2 * 2
    first, second, third = (views.of_epoch(epoch)[0] for epoch in range(3))
    assert not np.array_equal(first, images)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, third)


def test_held_out_images_are_mixed_into_no_image_that_trains(teacher: _Counting) -> None:
    train, validate = split_rows(320, fraction=0.1, seed=83)
    images = np.zeros((320, 32, 32, 3), np.uint8)
    images[validate] = 255
    drawn, _ = views_of(images, short_recipe(cutmix_share=1.0)).of_epoch(0)
    assert drawn[train].max() == 0
    assert drawn[validate].min() == 255


def test_answers_are_kept_for_runs_with_and_without_validation_and_for_all_styles(
    tmp_path: Path, small_cifar10: Dataset, teacher: _Counting
) -> None:
    images = small_cifar10.train.pixels
    recipe = short_recipe()
    kept = views_of(images, recipe, tmp_path)
    asked = teacher.asked
    another = held_out(get_recipe("distilled", "sequential").model_copy(update={"distillation": recipe.distillation}))
    again = TaughtViews(images, another, labels=CLASS_NAMES, models=MODELS, folder=tmp_path)
    assert again.prepare(Progress()) == 0.0
    assert teacher.asked == asked
    (images, targets), (same_images, same_targets) = kept.of_epoch(0), again.of_epoch(0)
    assert np.array_equal(images, same_images)
    assert np.array_equal(targets, same_targets)


def test_more_views_cost_what_is_missing_and_other_views_all(
    tmp_path: Path, small_cifar10: Dataset, teacher: _Counting
) -> None:
    images = small_cifar10.train.pixels
    one_teacher = {"teachers": TEACHERS[:1], "epochs": 9}
    views_of(images, short_recipe(**one_teacher), tmp_path)
    views_of(images, short_recipe(**one_teacher, views=3), tmp_path)
    assert teacher.asked == 3 * len(images)
    views_of(images, short_recipe(**one_teacher, cutmix_share=0.4), tmp_path)
    assert teacher.asked == 5 * len(images)


def test_damaged_file_is_computed_again(tmp_path: Path, small_cifar10: Dataset, teacher: _Counting) -> None:
    images = small_cifar10.train.pixels
    recipe = short_recipe(teachers=TEACHERS[:1])
    views_of(images, recipe, tmp_path)
    file, _ = sorted(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:-1])
    views_of(images, recipe, tmp_path)
    assert teacher.asked == 3 * len(images)


def test_teacher_that_is_not_published_is_a_clear_error(tmp_path: Path, small_cifar10: Dataset) -> None:
    with pytest.raises(ArtifactError, match=r"sequential/1/metadata.json is not there"):
        views_of(small_cifar10.train.pixels, short_recipe(), models=tmp_path)


def test_folder_that_can_not_be_written_to_is_a_clear_error(
    tmp_path: Path, small_cifar10: Dataset, teacher: _Counting
) -> None:
    (tmp_path / "answers").write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match="can't write"):
        views_of(small_cifar10.train.pixels, short_recipe(), tmp_path / "answers")
    assert teacher.asked


def recipe_of_style(style: str) -> Recipe:
    return held_out(Recipe.model_validate(short_recipe().model_dump() | {"model": style, "warmup_epochs": 0.5}))


@pytest.mark.usefixtures("quick_plots")
def test_student_learns_is_resumed_and_is_exported_as_the_plain_network(tmp_path: Path, small_cifar10: Dataset) -> None:
    recipe = recipe_of_style("functional")
    checkpoint = Checkpoint(tmp_path, recipe, "data")
    trained = fit(
        recipe, on_its_test_images(small_cifar10), checkpoint=checkpoint, features_folder=tmp_path, models=MODELS
    )
    assert (trained.train_n, len(trained.validation)) == (57, 7)
    assert trained.history[-1].loss < trained.history[0].loss
    assert trained.history[-1].val_accuracy is not None
    assert trained.parameters.total == trained.parameters.trainable == 582_026
    resumed = fit(recipe, on_its_test_images(small_cifar10), checkpoint=checkpoint, models=tmp_path / "no models")
    for one, same in zip(trained.model.get_weights(), resumed.model.get_weights(), strict=True):
        assert np.array_equal(one, same)
    metadata = export(trained, small_cifar10, tmp_path / "models", command="pytest")
    assert Recipe.model_validate(metadata.recipe) == recipe
    assert metadata.export.max_abs_difference_from_keras < 1e-2


@pytest.mark.parametrize("style", ["sequential", "subclassing"])
def test_student_of_any_style_learns_is_restored_and_becomes_the_plain_network(
    style: str, tmp_path: Path, small_cifar10: Dataset
) -> None:
    recipe = recipe_of_style(style)
    checkpoint = Checkpoint(tmp_path, recipe, "data")
    model, restored = (
        build(recipe, CIFAR_DIMENSIONS),
        build(recipe.model_copy(update={"seed": 1}), CIFAR_DIMENSIONS),
    )
    images = scale(small_cifar10.test.pixels, recipe.input_scaling)
    for network in (model, restored):
        compile_for_training(network, recipe, train_n=64)
        network.run_eagerly = True  # which is quicker than tracing one step
    model.train_on_batch(images, np.eye(10, dtype=np.float32)[small_cifar10.test.labels])
    checkpoint.save(model, [])
    checkpoint.restore(restored)
    assert weights_sha256(restored) == weights_sha256(model)
    exported = to_export(restored, recipe, CIFAR_DIMENSIONS)
    assert exported.count_params() == 582_026
    np.testing.assert_allclose(exported(images), model(images), atol=1e-2)
