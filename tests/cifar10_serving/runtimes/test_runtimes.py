"""Both runtimes through the one Protocol that they share."""

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.eager import context

from cifar10_serving.artifacts.layout import read_metadata, version_folder
from cifar10_serving.artifacts.metadata import SAVED_MODEL_FILE
from cifar10_serving.errors import ModelLoadError, RuntimeUnavailableError, UnsafeGraphError
from cifar10_serving.runtimes.base import Runtime, batch_sizes
from cifar10_serving.runtimes.golden import check_golden, read_golden
from cifar10_serving.runtimes.openvino import OpenVinoRuntime, has_bfloat16
from cifar10_serving.runtimes.tensorflow import TensorFlowModel, TensorFlowRuntime
from tests.conftest import MODELS, every_published_version
from training.cifar10 import SMALL_CNNS

FOLDER = version_folder(MODELS, "sequential", 1)
GOLDEN_IMAGES = 16
"""As many as the service computes whenever it loads a version; of a large network all of them take seconds."""


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
    metadata = read_metadata(folder)
    assert check_golden(runtime.load(folder), folder, metadata, "float32", max_images=GOLDEN_IMAGES) < 1e-4


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


class Writing(tf.Module):  # type: ignore[misc]
    """Answers, and writes a file meanwhile, or when it is loaded."""

    def __init__(self, file: Path, *, when_loaded: bool) -> None:
        super().__init__()
        self._file = str(file)
        self._resource = _Initialized(self._file) if when_loaded else None

    @tf.function(input_signature=[tf.TensorSpec((None, 32, 32, 3), tf.uint8, name="images")])  # type: ignore[untyped-decorator]
    def serving_default(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        if self._resource is None:
            tf.io.write_file(self._file, "written")
        return {"probabilities": tf.fill((tf.shape(images)[0], 10), 0.1)}


class _Initialized(tf.saved_model.experimental.TrackableResource):  # type: ignore[misc]
    """Resource that is initialized whenever its SavedModel is loaded."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self._file = file

    def _create_resource(self) -> tf.Tensor:
        return tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)

    def _initialize(self) -> None:
        tf.io.write_file(self._file, "written")


@pytest.mark.parametrize("when_loaded", [False, True])
def test_graph_that_writes_a_file_is_rejected_before_it_does(
    runtime: Runtime, tmp_path: Path, when_loaded: bool
) -> None:
    module = Writing(tmp_path / "written", when_loaded=when_loaded)
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": module.serving_default})
    (tmp_path / "written").unlink(missing_ok=True)
    with pytest.raises(UnsafeGraphError, match=r"saved_model.pb has the op '(WriteFile|HashTableV2)'"):
        runtime.load(tmp_path / "model")
    assert not (tmp_path / "written").exists()


def test_function_that_nothing_names_is_not_put_in_the_place_of_another(tmp_path: Path) -> None:
    saved = saved_model_pb2.SavedModel.FromString((FOLDER / SAVED_MODEL_FILE).read_bytes())
    library = saved.meta_graphs[0].graph_def.library
    answering = next(function for function in library.function if "classify" in function.signature.name)
    writing = library.function.add()
    writing.CopyFrom(answering)
    writing.signature.name = "writing"
    writing.signature.is_stateful = True
    writing.signature.control_output.append("save")
    writing.control_ret["save"] = "save"
    values = {"prefix": str(tmp_path / "written"), "names": ["a"], "slices": [""], "value": [1.0]}
    for name, value in values.items():
        constant = writing.node_def.add(name=name, op="Const").attr
        constant["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        constant["dtype"].type = constant["value"].tensor.dtype
    save = writing.node_def.add(name="save", op="SaveV2", input=[f"{name}:output:0" for name in values])
    save.attr["dtypes"].list.type.append(tf.float32.as_datatype_enum)
    for function, device in ((answering, b"GPU"), (writing, b"CPU")):
        function.attr["api_implements"].s = b"classify"
        function.attr["api_preferred_device"].s = device
    (tmp_path / SAVED_MODEL_FILE).write_bytes(saved.SerializeToString())
    model = TensorFlowRuntime().load(tmp_path)
    assert check_golden(model, FOLDER, read_metadata(FOLDER), "float32") < 1e-4
    assert [file.name for file in tmp_path.iterdir()] == [SAVED_MODEL_FILE]


def test_models_whose_functions_have_the_same_names_answer_beside_each_other(runtime: Runtime) -> None:
    folders = [version_folder(MODELS, name, 1) for name in SMALL_CNNS]
    models = [runtime.load(folder) for folder in folders]
    for model, folder in zip(models, folders, strict=True):
        assert check_golden(model, folder, read_metadata(folder), "float32") < 1e-4


def test_nothing_is_left_of_what_is_not_used_any_more() -> None:
    def functions() -> int:
        gc.collect()
        return len(context.context().list_function_names())

    runtime = TensorFlowRuntime()
    runtime.load(FOLDER)
    before = functions()
    for _ in range(3):
        runtime.load(FOLDER)
    assert functions() == before


def test_folder_without_a_model_is_a_clear_error(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"not a model")
    with pytest.raises(ModelLoadError, match=f"can't load {tmp_path}"):
        runtime.load(tmp_path)


@pytest.mark.skipif(not has_bfloat16(), reason="this CPU has no bfloat16")
def test_bfloat16_stays_within_its_own_tolerance_and_is_not_float32() -> None:
    difference = check_golden(OpenVinoRuntime("bfloat16").load(FOLDER), FOLDER, read_metadata(FOLDER), "bfloat16")
    assert difference > 1e-5


def test_gpu_that_is_not_there_is_an_error_that_says_what_is() -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"gpu:7 was requested, but TensorFlow [\d.]+ sees .*CPU:0"):
        TensorFlowRuntime("gpu:7")


def test_tensorflow_does_not_pretend_to_do_bfloat16() -> None:
    with pytest.raises(RuntimeUnavailableError, match="bfloat16 with TensorFlow"):
        TensorFlowRuntime("cpu", "bfloat16")
