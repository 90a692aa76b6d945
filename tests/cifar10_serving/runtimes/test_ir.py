"""Versions whose network is in OpenVINO's own format."""

import re
from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from cifar10_serving.artifacts.layout import file_records, verify, version_folder
from cifar10_serving.artifacts.metadata import IR_FILE, IR_WEIGHTS_FILE, SAVED_MODEL_FILE
from cifar10_serving.errors import ArtifactMissingError, MetadataError, ModelLoadError
from cifar10_serving.runtimes.openvino import OpenVinoRuntime
from cifar10_serving.runtimes.tensorflow import TensorFlowRuntime
from tests.other_models import publish_classifier


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a network that gives the mean red, green and blue as probabilities."""
    images = ops.parameter(openvino.PartialShape([-1, 16, 16, 3]), openvino.Type.u8, name="images")
    means = ops.reduce_mean(ops.convert(images, "f32"), np.array([1, 2], np.int64))
    scaled = ops.multiply(means, np.array([[0.001, 0.001, 0.002]], np.float32))
    (tmp_path / "openvino").mkdir()
    openvino.save_model(openvino.Model([ops.softmax(scaled, 1)], [images], "means"), tmp_path / IR_FILE)
    return tmp_path


def change(folder: Path, old: str, new: str) -> None:
    text, count = re.subn(old, new, (folder / IR_FILE).read_text(), count=1)
    assert count == 1
    (folder / IR_FILE).write_text(text)


def test_openvino_loads_it_and_tensorflow_says_why_not(folder: Path) -> None:
    answers = OpenVinoRuntime().load(folder).predict(np.full((3, 16, 16, 3), 200, np.uint8))
    assert answers.shape == (3, 3)
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)
    with pytest.raises(ModelLoadError, match="only in OpenVINO's format, which TensorFlow can't load"):
        TensorFlowRuntime().load(folder)


def test_compiled_network_is_cached_by_its_weights_too(folder: Path, tmp_path: Path) -> None:
    images = np.full((1, 16, 16, 3), 200, np.uint8)
    first = OpenVinoRuntime(compiled_models=tmp_path / "cache").load(folder).predict(images)
    weights = (folder / IR_WEIGHTS_FILE).read_bytes()
    (folder / IR_WEIGHTS_FILE).write_bytes(bytes(len(weights)))
    try:
        second = OpenVinoRuntime(compiled_models=tmp_path / "cache").load(folder).predict(images)
    except ModelLoadError:  # the axes are zeros too
        return
    assert not np.allclose(first, second)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('type="Soft[Mm]ax" version="opset[0-9]+"', 'type="ReadValue" version="opset6"', "'ReadValue'"),
        ('(type="Soft[Mm]ax") version="opset[0-9]+"', r'\1 version="extension"', "'extension'"),
        (r"<net ", '<!DOCTYPE net [<!ENTITY x "y">]><net ', "declares a document type"),
        (r"</net>", "", "not XML"),
    ],
)
def test_documents_that_do_more_than_compute_are_rejected(folder: Path, old: str, new: str, problem: str) -> None:
    change(folder, old, new)
    with pytest.raises(ModelLoadError, match=problem):
        OpenVinoRuntime().load(folder)


def test_cut_weights_are_an_error(folder: Path) -> None:
    (folder / IR_WEIGHTS_FILE).write_bytes(b"")
    with pytest.raises(ModelLoadError, match="OpenVINO"):
        OpenVinoRuntime().load(folder)


def test_every_file_of_the_network_needs_a_checksum(tmp_path: Path, folder: Path) -> None:
    models = tmp_path / "models"
    metadata = publish_classifier(models, "means", ["red", "green", "blue"], 16, 16)
    version = version_folder(models, "means", 1)
    (version / SAVED_MODEL_FILE).unlink()
    (folder / "openvino").rename(version / "openvino")
    complete = metadata.model_copy(update={"files": file_records(version)})
    assert complete.network_files == (IR_FILE, IR_WEIGHTS_FILE)
    assert complete.runtimes == ("openvino",)
    verify(version, complete)
    without = {name: record for name, record in complete.files.items() if name != IR_WEIGHTS_FILE}
    with pytest.raises(MetadataError, match=r"no checksum of openvino/model.bin"):
        verify(version, complete.model_copy(update={"files": without}))
    (version / SAVED_MODEL_FILE).write_bytes(b"another network, which a runtime would prefer")
    with pytest.raises(MetadataError, match=r"no checksum of saved_model.pb"):
        verify(version, complete)
    (version / SAVED_MODEL_FILE).unlink()
    (version / IR_WEIGHTS_FILE).unlink()
    with pytest.raises(ArtifactMissingError, match=r"model.bin"):
        verify(version, complete)
