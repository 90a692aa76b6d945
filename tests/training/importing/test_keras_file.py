from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from training.errors import ModelImportError
from training.importing.keras_file import open_keras_file

LAYER = """
import keras

print("running")

class Doubled(keras.layers.Layer):
    def call(self, values):
        return 2 * values
"""


def network(*layers: keras.Layer, shape: tuple[int | None, ...] = (16, 16, 3), classes: int = 3) -> keras.Model:
    keras.utils.set_random_seed(0)
    pooled = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(classes)]
    return keras.Sequential([keras.Input(shape), *layers, *pooled])


@pytest.mark.parametrize(("suffix", "kind"), [("keras", "keras"), ("h5", "keras_h5")])
def test_saved_model_is_opened_whatever_its_name(tmp_path: Path, suffix: str, kind: str) -> None:
    model = network(keras.layers.Conv2D(4, 3))
    model.save(tmp_path / f"model.{suffix}")
    file = (tmp_path / f"model.{suffix}").rename(tmp_path / "model.bin")
    source = open_keras_file(file, None, None)
    assert (source.kind, source.input.size, source.output_count, source.scales_itself) == (kind, (16, 16), 3, False)
    assert source.parameters.total == source.parameters.trainable == model.count_params()
    pixels = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    np.testing.assert_allclose(source.outputs(pixels), model.predict(pixels, verbose=0), atol=1e-5)


def test_model_of_any_size_needs_one_and_may_scale_itself(tmp_path: Path) -> None:
    network(keras.layers.Rescaling(1 / 255), shape=(None, None, 3)).save(tmp_path / "model.keras")
    with pytest.raises(ModelImportError, match="--image-size"):
        open_keras_file(tmp_path / "model.keras", None, None)
    source = open_keras_file(tmp_path / "model.keras", (24, 40), None)
    assert source.scales_itself
    assert source.outputs(np.zeros((1, 24, 40, 3), np.float32)).shape == (1, 3)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_lambda_layers_are_rejected_by_name_before_anything_runs(
    tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    network(keras.layers.Lambda(lambda values: values / 255, name="scaled")).save(tmp_path / f"model.{suffix}")
    with pytest.raises(ModelImportError, match=r"the layer 'scaled' is a Lambda: it holds Python code"):
        open_keras_file(tmp_path / f"model.{suffix}", None, tmp_path / "layers.py")
    assert "running" not in capsys.readouterr().out


def test_own_layers_come_from_a_named_file_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "layers.py").write_text(LAYER)
    scope: dict[str, type[keras.Layer]] = {}
    exec(LAYER, scope)  # noqa: S102  # the text above
    network(scope["Doubled"]()).save(tmp_path / "model.keras")
    capsys.readouterr()
    with pytest.raises(ModelImportError, match=r"Doubled.*--custom-objects"):
        open_keras_file(tmp_path / "model.keras", None, None)
    assert "running" not in capsys.readouterr().out
    source = open_keras_file(tmp_path / "model.keras", None, tmp_path / "layers.py")
    assert source.output_count == 3
    said, ran = capsys.readouterr().out.splitlines()[:2]
    assert said == f"running {tmp_path / 'layers.py'}, as --custom-objects says"
    assert ran == "running"


def test_file_with_own_layers_that_fails_is_named(tmp_path: Path) -> None:
    network().save(tmp_path / "model.keras")
    (tmp_path / "layers.py").write_text("1 / 0")
    with pytest.raises(ModelImportError, match=r"layers.py can't be run: ZeroDivisionError"):
        open_keras_file(tmp_path / "model.keras", None, tmp_path / "layers.py")
    (tmp_path / "layers.py").write_text("import sys; sys.exit(3)")
    with pytest.raises(ModelImportError, match=r"layers.py can't be run: SystemExit: 3"):
        open_keras_file(tmp_path / "model.keras", None, tmp_path / "layers.py")
    with pytest.raises(ModelImportError, match=r"nowhere.py is not a Python file"):
        open_keras_file(tmp_path / "model.keras", None, tmp_path / "nowhere.py")


def test_weights_alone_are_rejected(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["kernel"] = np.zeros(3)
    with pytest.raises(ModelImportError, match="weights without an architecture"):
        open_keras_file(tmp_path / "weights.h5", None, None)


def test_several_inputs_and_outputs_are_rejected(tmp_path: Path) -> None:
    one, two = keras.Input((16, 16, 3), name="left"), keras.Input((16, 16, 3), name="right")
    pooled = keras.layers.GlobalAveragePooling2D()
    keras.Model([one, two], pooled(one + two)).save(tmp_path / "two.keras")
    with pytest.raises(ModelImportError, match="2 inputs: left, right"):
        open_keras_file(tmp_path / "two.keras", None, None)
    keras.Model(one, [pooled(one), pooled(2 * one)]).save(tmp_path / "outputs.keras")
    with pytest.raises(ModelImportError, match="2 outputs"):
        open_keras_file(tmp_path / "outputs.keras", None, None)
    keras.Model(one, 2 * one).save(tmp_path / "map.keras")
    with pytest.raises(ModelImportError, match="not a number for each class"):
        open_keras_file(tmp_path / "map.keras", None, None)
