"""Both runtimes through the one Protocol that they share."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from catalog.artifact import read_metadata, version_folder
from catalog.errors import ModelLoadError, RuntimeUnavailableError
from runtime.base import Runtime
from runtime.fixed_sizes import batch_sizes
from runtime.golden import check_golden, read_golden
from runtime.openvino import OpenVinoRuntime, has_bfloat16
from runtime.tensorflow import TensorFlowModel, TensorFlowRuntime
from tests.conftest import MODELS, every_published_version

FOLDER = version_folder(MODELS, "sequential", 1)


@pytest.fixture(params=[OpenVinoRuntime, TensorFlowRuntime], scope="module")
def runtime(request: pytest.FixtureRequest) -> Runtime:
    opened: Runtime = request.param()
    return opened


def test_says_what_it_is(runtime: Runtime) -> None:
    assert runtime.name in {"openvino", "tensorflow"}
    assert runtime.version[0].isdigit()
    assert (runtime.device, runtime.precision) == ("cpu", "float32")


@pytest.mark.parametrize(("name", "version"), every_published_version())
def test_published_versions_answer_as_published(runtime: Runtime, name: str, version: int) -> None:
    folder = version_folder(MODELS, name, version)
    assert check_golden(runtime.load(folder), folder, read_metadata(folder), "float32") < 1e-4


@pytest.mark.parametrize("rows", [1, 2, 33, 64])
def test_any_batch_gives_the_same_answers(runtime: Runtime, rows: int) -> None:
    golden = read_golden(FOLDER / "golden.npz")
    answers = runtime.load(FOLDER).predict(golden.images[:rows])
    assert answers.shape == (rows, 10)
    assert answers.dtype == np.float32
    assert answers == pytest.approx(golden.probabilities[:rows], abs=1e-5)
    assert answers.sum(axis=1) == pytest.approx(np.ones(rows), abs=1e-5)


def test_image_alone_gets_the_same_answer(runtime: Runtime) -> None:
    golden = read_golden(FOLDER / "golden.npz")
    model = runtime.load(FOLDER)
    answers = np.concatenate([model.predict_alone(golden.images[index : index + 1]) for index in range(8)])
    assert answers == pytest.approx(golden.probabilities[:8], abs=1e-5)


def test_threads_get_their_own_answers(runtime: Runtime) -> None:
    golden = read_golden(FOLDER / "golden.npz")
    model = runtime.load(FOLDER)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda index: model.predict(golden.images[index : index + 1])[0], range(64)))
    assert np.stack(answers) == pytest.approx(golden.probabilities, abs=1e-5)


def test_padded_batches_give_the_same_answers() -> None:
    golden = read_golden(FOLDER / "golden.npz")
    served = tf.saved_model.load(str(FOLDER)).signatures["serving_default"]
    model = TensorFlowModel(lambda images: served(images=images)["probabilities"], "/CPU:0", batch_sizes(8))
    assert model.warm_up_rows == (1, 2, 4, 8)
    assert model.predict(golden.images[:19]) == pytest.approx(golden.probabilities[:19], abs=1e-5)


def test_folder_without_a_model_is_a_clear_error(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"not a model")
    with pytest.raises(ModelLoadError, match=f"can't load {tmp_path}"):
        runtime.load(tmp_path)


@pytest.mark.skipif(not has_bfloat16(), reason="this CPU has no bfloat16")
def test_bfloat16_stays_within_its_own_tolerance_and_is_not_float32() -> None:
    difference = check_golden(OpenVinoRuntime("bfloat16").load(FOLDER), FOLDER, read_metadata(FOLDER), "bfloat16")
    assert difference > 1e-5


def test_gpu_that_is_not_there_is_an_error_that_says_what_is() -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"gpu:7 was asked for, and TensorFlow [\d.]+ sees .*CPU:0"):
        TensorFlowRuntime("gpu:7")


def test_tensorflow_does_not_pretend_to_do_bfloat16() -> None:
    with pytest.raises(RuntimeUnavailableError, match="bfloat16 with TensorFlow"):
        TensorFlowRuntime("cpu", "bfloat16")
