from pathlib import Path

import numpy as np
import pytest

from cifar10_serving.artifacts.metadata import IR_FILE
from cifar10_serving.runtimes.openvino import OpenVinoRuntime
from tests.training.importing.models import BRIGHTNESS, SIDE, weights, write_onnx
from training.errors import ModelImportError
from training.importing.onnx_file import open_onnx_file
from training.importing.wrapping import Wrapping, probabilities_of
from training.preprocessing import SCALINGS, scale


@pytest.mark.parametrize("batch", [None, 1])
@pytest.mark.parametrize("external", ["", "weights.data"])
def test_model_is_opened_for_batches(tmp_path: Path, batch: int | None, external: str) -> None:
    source = open_onnx_file(write_onnx(tmp_path / "model.onnx", batch=batch, external=external), None)
    assert (source.input.size, source.input.layout, source.input.dtype) == ((SIDE, SIDE), "NCHW", "float32")
    assert (source.output_count, source.parameters.total) == (3, 12)
    pixels = np.random.default_rng(0).random((5, SIDE, SIDE, 3), np.float32)
    kernel, bias = weights()
    np.testing.assert_allclose(source.outputs(pixels), pixels.mean(axis=(1, 2)) @ kernel + bias, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_written_network_scales_and_gives_probabilities(tmp_path: Path, scaling: str) -> None:
    chosen = next(known for known in SCALINGS if known == scaling)
    source = open_onnx_file(write_onnx(tmp_path / "model.onnx"), None)
    source.writer(Wrapping(chosen, "logits", (SIDE, SIDE, 3), 3))(tmp_path)
    assert (tmp_path / IR_FILE).is_file()
    images = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
    images[:, :, :, 0] //= 2  # so that the order of the channels matters
    expected = probabilities_of(source.outputs(scale(images, chosen)), "logits")
    answers = OpenVinoRuntime().load(tmp_path).predict(images)
    np.testing.assert_allclose(answers, expected, atol=5e-3)
    assert len(BRIGHTNESS) == answers.shape[1]


def test_operation_that_does_not_exist_is_named(tmp_path: Path) -> None:
    file = write_onnx(tmp_path / "model.onnx", operation="ReadFile")
    with pytest.raises(ModelImportError, match="ReadFile"):
        open_onnx_file(file, None)


@pytest.mark.parametrize("place", ["../secret", "/etc/hostname", "link"])
def test_weights_outside_the_folder_are_not_read(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"\x00" * 36)
    file = write_onnx(folder / "model.onnx", external=place)
    if place == "link":
        (folder / "link").unlink()
        (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelImportError, match="outside its folder"):
        open_onnx_file(file, None)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    file = write_onnx(tmp_path / "model.onnx", external="weights.data")
    (tmp_path / "weights.data").unlink()
    with pytest.raises(ModelImportError, match=r"weights.data, which is not there"):
        open_onnx_file(file, None)
