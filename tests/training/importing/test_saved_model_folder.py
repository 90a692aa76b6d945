from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from training.errors import ModelImportError
from training.importing.saved_model_folder import open_saved_model_folder

IMAGES = tf.TensorSpec((None, 16, 16, 3), tf.float32, name="input_1")


def saved(folder: Path, function: Callable[..., Any], *specs: tf.TensorSpec, name: str = "serving_default") -> Path:
    """Save a function as the signature of a SavedModel with a variable, as TensorFlow 2.10 did."""
    module = tf.Module()
    module.weight = tf.Variable(2.0, name="weight")
    module.step = tf.Variable(0.0, trainable=False)
    module.train = tf.function(lambda images: module.step.assign_add(tf.reduce_sum(images)), input_signature=[IMAGES])
    signature = tf.function(lambda *inputs: function(module.weight, *inputs), input_signature=specs or [IMAGES])
    tf.saved_model.save(module, str(folder), signatures={name: signature})
    return folder


def means(weight: Any, images: Any) -> dict[str, Any]:
    return {"dense_1": weight * tf.reduce_mean(images, [1, 2])}


@pytest.mark.parametrize("name", ["serving_default", "predict"])
def test_signature_with_one_image_input_is_found(tmp_path: Path, name: str) -> None:
    source = open_saved_model_folder(saved(tmp_path / "model", means, name=name), None)
    assert (source.kind, source.input.size, source.output_count) == ("saved_model", (16, 16), 3)
    assert source.parameters.total == 1
    pixels = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    np.testing.assert_allclose(source.outputs(pixels), 2 * pixels.mean(axis=(1, 2)), rtol=1e-5)


def test_export_of_keras_is_opened(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.BatchNormalization(), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)]
    model = keras.Sequential([keras.Input((16, 16, 3)), *layers])
    model.export(tmp_path / "model", verbose=False)
    source = open_saved_model_folder(tmp_path / "model", None)
    pixels = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    np.testing.assert_allclose(source.outputs(pixels), model.predict(pixels, verbose=0), atol=1e-5)
    assert source.parameters.total == model.count_params()


def test_graph_that_writes_files_is_never_loaded(tmp_path: Path) -> None:
    target = tmp_path / "written"

    def writes(weight: Any, images: Any) -> dict[str, Any]:
        with tf.control_dependencies([tf.io.write_file(str(target), "x")]):
            return means(weight, images)

    with pytest.raises(ModelImportError, match="WriteFile"):
        open_saved_model_folder(saved(tmp_path / "model", writes), None)
    assert not target.exists()


def test_saving_by_a_signature_is_rejected(tmp_path: Path) -> None:
    target = tmp_path / "written"

    def saves(weight: Any, images: Any) -> dict[str, Any]:
        with tf.control_dependencies(
            [tf.raw_ops.SaveV2(prefix=str(target), tensor_names=["w"], shape_and_slices=[""], tensors=[weight])]
        ):
            return means(weight, images)

    with pytest.raises(ModelImportError, match="SaveV2"):
        open_saved_model_folder(saved(tmp_path / "model", saves), None)
    assert not list(tmp_path.glob("written*"))


def test_other_inputs_and_outputs_are_rejected(tmp_path: Path) -> None:
    text = tf.TensorSpec((None,), tf.string, name="text")
    with pytest.raises(ModelImportError, match="text or encoded files"):
        open_saved_model_folder(
            saved(tmp_path / "text", lambda weight, texts: {"y": weight * tf.zeros((tf.size(texts), 3))}, text), None
        )
    with pytest.raises(ModelImportError, match="it has 2 inputs"):
        open_saved_model_folder(
            saved(tmp_path / "two", lambda weight, one, two: means(weight, one + two), IMAGES,
                  tf.TensorSpec((None, 16, 16, 3), tf.float32, name="input_2")),
            None,
        )  # fmt: skip
    with pytest.raises(ModelImportError, match="it has 2 outputs: dense_1, other"):
        open_saved_model_folder(
            saved(tmp_path / "outputs", lambda weight, images: means(weight, images) | {"other": images}), None
        )


def test_damaged_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelImportError, match=r"saved_model.pb is not a SavedModel") as error:
        open_saved_model_folder(tmp_path, None)
    assert "\n" not in str(error.value)
