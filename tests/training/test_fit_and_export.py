"""Training and export as one run makes them, on 64 real images: slow parts done once for the module."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow_serving.apis import prediction_log_pb2

from cifar10_serving.artifacts.layout import WARM_UP_FILE, published_versions, read_metadata, verify, version_folder
from cifar10_serving.artifacts.metadata import ModelMetadata
from cifar10_serving.errors import PublishError
from cifar10_serving.runtimes.base import Images
from cifar10_serving.runtimes.golden import check_golden, read_golden
from cifar10_serving.runtimes.openvino import OpenVinoRuntime
from service.images.encoded import EncodedImage
from tests.conftest import ROOT, SAMPLES
from tests.training.conftest import PLOT_NAMES, on_its_test_images
from training.batches import epoch_order
from training.data import Dataset, split_validation
from training.export import export
from training.fit import TrainedModel, fit
from training.preprocessing import scale
from training.recipes import Recipe, get_recipe
from training.recipes.recipe import InputScaling

pytestmark = pytest.mark.slow


def short_recipe(model: str = "subclassing") -> Recipe:
    return get_recipe("tutorial", model).model_copy(update={"epochs": 3, "batch_size": 32})


@pytest.fixture(scope="module")
def trained(small_cifar10: Dataset) -> TrainedModel:
    return fit(short_recipe(), small_cifar10)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def published(trained: TrainedModel, small_cifar10: Dataset, models: Path) -> ModelMetadata:
    return export(trained, small_cifar10, models, command="pytest")


@pytest.fixture
def folder(published: ModelMetadata, models: Path) -> Path:
    return version_folder(models, published.name, published.version)


def test_training_learns_and_keeps_its_history(trained: TrainedModel) -> None:
    assert [entry.epoch for entry in trained.history] == [1, 2, 3]
    assert trained.history[-1].loss < trained.history[0].loss
    assert all(entry.duration_s > 0 for entry in trained.history)
    assert (trained.train_n, len(trained.validation)) == (102, 26)
    assert trained.parameters.total == trained.parameters.trainable == 582_026


@dataclass(frozen=True)
class Repeated:
    """The same run once more, and the images that it scaled for the network, in order."""

    trained: TrainedModel
    seen: list[bytes]


@pytest.fixture(scope="module")
def repeated(small_cifar10: Dataset) -> Repeated:
    seen: list[bytes] = []

    def recording_scale(images: Images, scaling: InputScaling) -> NDArray[np.float32]:
        seen.append(images.tobytes())
        return scale(images, scaling)

    with pytest.MonkeyPatch.context() as changed:
        changed.setattr("training.fit.scale", recording_scale)
        return Repeated(fit(short_recipe(), small_cifar10), seen)


def test_same_seed_gives_the_same_weights_and_another_seed_others(
    small_cifar10: Dataset, trained: TrainedModel, repeated: Repeated
) -> None:
    other = fit(short_recipe().model_copy(update={"seed": 1}), small_cifar10)
    for one, same, different in zip(
        trained.model.get_weights(), repeated.trained.model.get_weights(), other.model.get_weights(), strict=True
    ):
        assert np.array_equal(one, same)
        assert not np.array_equal(one, different)


def test_network_sees_the_batches_in_the_order_of_seed_and_epoch(small_cifar10: Dataset, repeated: Repeated) -> None:
    recipe = short_recipe()
    train, validation = split_validation(
        small_cifar10.train, fraction=recipe.validation_fraction, seed=recipe.split_seed
    )
    orders = [epoch_order(recipe.seed, epoch, len(train)) for epoch in range(recipe.epochs)]
    starts = range(0, len(train), recipe.batch_size)
    chosen = [order[start : start + recipe.batch_size] for order in orders for start in starts]
    seen = [images for images in repeated.seen if images != validation.pixels.tobytes()]
    assert seen[-len(chosen) :] == [train.images[rows].tobytes() for rows in chosen]


def test_published_version_is_whole_and_passes_its_own_golden_check(published: ModelMetadata, folder: Path) -> None:
    assert read_metadata(folder) == published
    verify(folder, published)
    check_golden(OpenVinoRuntime().load(folder), folder, published, "float32")
    assert {"saved_model.pb", "golden.npz", WARM_UP_FILE, "plots/learning_curves.svg"} <= set(published.files)
    assert published_versions(folder.parent.parent, "subclassing") == [1]


def test_artifact_answers_as_the_keras_model(
    trained: TrainedModel, published: ModelMetadata, folder: Path, small_cifar10: Dataset
) -> None:
    images = small_cifar10.test.pixels
    expected = trained.model.predict(scale(images, "divide_by_255"), verbose=0)
    answers = OpenVinoRuntime().load(folder).predict(images)
    assert np.abs(answers - expected).max() == pytest.approx(
        published.export.max_abs_difference_from_keras, rel=0.05, abs=1e-6
    )
    assert published.export.max_abs_difference_from_keras < 1e-3


def test_evaluations_are_of_both_runtimes_and_both_splits(published: ModelMetadata) -> None:
    found = {(entry.runtime, entry.precision, entry.split, entry.n) for entry in published.evaluations}
    assert found >= {
        (name, "float32", split, n)
        for name in ("tensorflow", "openvino")
        for split, n in (("test", 64), ("validation", 26))
    }
    assert all(entry.runtime_version[0].isdigit() for entry in published.evaluations)


def test_graph_is_frozen_and_half_size(folder: Path) -> None:
    size_bytes = (folder / "saved_model.pb").stat().st_size
    assert 582_026 * 2 < size_bytes < 582_026 * 2.2
    assert not tf.saved_model.load(str(folder)).signatures["serving_default"].variables


def test_signatures_are_as_the_metadata_describes(published: ModelMetadata, folder: Path) -> None:
    loaded = tf.saved_model.load(str(folder))
    assert set(loaded.signatures) == {signature.name for signature in published.signatures}
    for signature in published.signatures:
        function = loaded.signatures[signature.name]
        (name, tensor), *others = function.structured_input_signature[1].items()
        assert others == []
        assert (name, tensor.dtype.name) == (signature.inputs[0].name, signature.inputs[0].dtype)
        assert list(function.structured_outputs) == ["probabilities"]


def test_encoded_signature_answers_for_files_as_the_default_one_for_their_pixels(folder: Path) -> None:
    loaded = tf.saved_model.load(str(folder))
    contents = [sample.file.read_bytes() for sample in SAMPLES[:3]]
    pixels = np.stack([EncodedImage(content, (32, 32, 3), max_pixels=1024).decode() for content in contents])
    by_file = loaded.signatures["encoded_images"](image_bytes=tf.constant(contents))["probabilities"]
    by_pixels = loaded.signatures["serving_default"](images=tf.constant(pixels))["probabilities"]
    assert by_file.numpy() == pytest.approx(by_pixels.numpy(), abs=1e-6)


def test_warm_up_requests_are_what_tensorflow_serving_reads(folder: Path, small_cifar10: Dataset) -> None:
    records = list(tf.data.TFRecordDataset(str(folder / WARM_UP_FILE)).as_numpy_iterator())
    requests = [prediction_log_pb2.PredictionLog.FromString(record).predict_log.request for record in records]
    assert [request.model_spec.signature_name for request in requests] == ["serving_default"] * 2
    assert np.array_equal(tf.make_ndarray(requests[1].inputs["images"]), small_cifar10.test.images[:32])


def test_golden_answers_are_the_artifacts_own(folder: Path, small_cifar10: Dataset) -> None:
    golden = read_golden(folder / "golden.npz")
    assert np.array_equal(golden.images, small_cifar10.test.pixels)
    assert OpenVinoRuntime().load(folder).predict(golden.images) == pytest.approx(golden.probabilities, abs=1e-5)


@pytest.mark.parametrize("plot", PLOT_NAMES)
def test_plots_are_svg(published: ModelMetadata, folder: Path, plot: str) -> None:
    assert "<svg" in (folder / published.plots[plot]).read_text(encoding="utf-8")


def test_provenance_tells_commit_versions_and_hardware(published: ModelMetadata) -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert published.training_run.git_commit.startswith(commit.stdout.strip() or "unknown")
    assert {"python", "tensorflow", "keras", "openvino"} <= set(published.training_run.versions)
    assert "cores" in published.training_run.hardware


@pytest.mark.usefixtures("quick_plots")
def test_folder_that_can_not_be_written_to_is_a_clear_error(
    trained: TrainedModel, small_cifar10: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(PublishError, match="can't write to"):
        export(trained, small_cifar10, tmp_path / "models", command="pytest")


@pytest.mark.usefixtures("quick_plots")
def test_run_on_all_images_in_bfloat16_is_published_without_a_validation_part(
    small_cifar10: Dataset, tmp_path: Path
) -> None:
    recipe = get_recipe("tuned", "functional").model_copy(update={"epochs": 3, "batch_size": 32})
    trained = fit(recipe, on_its_test_images(small_cifar10))
    again = fit(recipe, on_its_test_images(small_cifar10))
    assert (trained.train_n, len(trained.validation)) == (64, 0)
    assert trained.history[-1].loss < trained.history[0].loss
    assert trained.history[-1].val_loss is None
    for one, same in zip(trained.model.get_weights(), again.model.get_weights(), strict=True):
        assert np.array_equal(one, same)
    metadata = export(trained, small_cifar10, tmp_path, command="pytest")
    assert {entry.split for entry in metadata.evaluations} == {"test"}
    assert metadata.measured_data.validation == 0
    assert metadata.export.max_abs_difference_from_keras < 1e-2
    assert read_metadata(version_folder(tmp_path, "functional", 1)) == metadata
