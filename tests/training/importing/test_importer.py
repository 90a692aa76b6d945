from pathlib import Path

import keras
import numpy as np
import pytest

from cifar10_serving.artifacts.layout import read_metadata, verify, version_folder
from cifar10_serving.artifacts.metadata import IR_FILE, SAVED_MODEL_FILE
from cifar10_serving.errors import ModelLoadError
from cifar10_serving.runtimes.golden import check_golden, read_golden
from cifar10_serving.runtimes.openvino import OpenVinoRuntime
from cifar10_serving.runtimes.tensorflow import TensorFlowRuntime
from tests.training.importing.models import LABELS, SIDE, weights, write_labels, write_onnx, write_pictures
from training.__main__ import main


def write_keras(file: Path, *, broken: bool = False) -> Path:
    """Write the model of `tests.training.importing.models` as a Keras file."""
    layers = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), *layers])
    kernel, bias = weights()
    model.set_weights([np.full_like(kernel, np.nan) if broken else kernel, bias])
    model.save(file)
    return file


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_labels(tmp_path / "labels.txt")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def run(monkeypatch: pytest.MonkeyPatch, models: Path, *arguments: object) -> int:
    words = ["training", "import", *map(str, arguments), "--models", str(models)]
    monkeypatch.setattr("sys.argv", [*words, "--checkpoints", str(models.parent / "cache")])
    return main()


@pytest.mark.parametrize("kind", ["keras", "onnx"])
def test_model_is_understood_measured_and_published(  # noqa: PLR0917  # fixtures
    kind: str,
    tmp_path: Path,
    models: Path,
    labels: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / f"model.{kind}"
    write_keras(file) if kind == "keras" else write_onnx(file)
    data = write_pictures(tmp_path / "pictures")
    assert run(monkeypatch, models, file, "--name", "garden", "--labels", labels, "--data", data) == 0
    text = capsys.readouterr().out
    assert "* divide_by_255            1.0000 (10 of 10)" in text
    assert "20 of 20 correct" in text

    folder = version_folder(models, "garden", 1)
    metadata = read_metadata(folder)
    verify(folder, metadata)
    assert (metadata.labels, metadata.input_shape, metadata.title) == (list(LABELS), (SIDE, SIDE, 3), "Garden")
    imported = metadata.imported
    assert imported is not None
    assert (imported.source, imported.scaling, imported.scaling_by) == (kind, "divide_by_255", "measurement")
    assert imported.outputs == ("probabilities" if kind == "keras" else "logits")
    assert {trial.scaling: trial.n for trial in imported.scalings}["divide_by_255"] == 10
    assert (metadata.measured_data.test, metadata.measured_data.validation, metadata.measured_data.train) == (20, 10, 0)
    assert all((entry.split, entry.n, entry.correct) == ("test", 20, 20) for entry in metadata.evaluations)
    assert set(metadata.plots) == {"confusion_matrix", "sample_predictions"}
    network = SAVED_MODEL_FILE if kind == "keras" else IR_FILE
    assert network in metadata.files
    assert metadata.network_file == network
    assert metadata.runtimes == (("openvino", "tensorflow") if kind == "keras" else ("openvino",))
    assert {entry.runtime for entry in metadata.evaluations} == set(metadata.runtimes)
    check_golden(OpenVinoRuntime().load(folder), folder, metadata, "float32")
    again = ["training", "evaluate", str(folder), "--data", str(data), "--checkpoints", str(tmp_path / "cache")]
    monkeypatch.setattr("sys.argv", again)
    assert main() == 0
    assert "20 of 20 correct (1.0000), loss 0.0000: matches" in capsys.readouterr().out
    if kind == "keras":
        check_golden(TensorFlowRuntime().load(folder), folder, metadata, "float32")
    else:
        with pytest.raises(ModelLoadError, match="only in OpenVINO's format, which TensorFlow can't load"):
            TensorFlowRuntime().load(folder)


def test_without_pictures_nothing_is_measured(
    tmp_path: Path, models: Path, labels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_onnx(tmp_path / "model.onnx")
    assert run(monkeypatch, models, file, "--name", "garden", "--labels", labels) == 1
    assert "scaling of its pixels can't be found out without test pictures" in capsys.readouterr().err
    assert not models.exists() or not list(models.rglob("*"))
    command = (file, "--name", "garden", "--labels", labels, "--scaling", "imagenet")
    assert run(monkeypatch, models, *command) == 0
    assert "accuracy not measured" in capsys.readouterr().out
    metadata = read_metadata(version_folder(models, "garden", 1))
    assert (metadata.evaluations, metadata.dataset, metadata.plots) == ([], None, {})
    assert metadata.imported is not None
    assert (metadata.imported.scaling_by, metadata.imported.scalings) == ("option", [])
    assert set(metadata.golden.tolerance) >= {"float32"}
    golden = read_golden(version_folder(models, "garden", 1) / metadata.golden.file)
    assert len(golden.images) == metadata.golden.n == 16
    assert (golden.labels == -1).all()


def test_published_saved_model_is_imported_again_with_the_same_answers(
    tmp_path: Path, models: Path, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_keras(tmp_path / "model.keras")
    options = ("--name", "garden", "--labels", labels)
    assert run(monkeypatch, models, file, *options, "--scaling", "divide_by_255") == 0
    first = version_folder(models, "garden", 1)
    assert run(monkeypatch, models, first, *options) == 0  # it takes unscaled bytes
    second = version_folder(models, "garden", 2)
    imported = read_metadata(second).imported
    assert imported is not None
    assert (imported.scaling, imported.scaling_by) == ("unscaled", "source")
    answers = [read_golden(folder / "golden.npz").probabilities for folder in (first, second)]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)


def test_bad_input_is_one_line_and_publishes_nothing(
    tmp_path: Path, models: Path, labels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_onnx(tmp_path / "model.onnx")
    broken = write_keras(tmp_path / "broken.keras", broken=True)
    two = tmp_path / "two.txt"
    two.write_text("cat\ndog\n")
    wrong = write_pictures(tmp_path / "wrong", labels=("bright", "dark", "grey"))
    (tmp_path / "nothing").mkdir()
    named = ("--name", "garden")
    for arguments, problem in [
        ((file, "--name", "My Garden", "--labels", labels), "the name 'My Garden'"),
        ((tmp_path / "none.onnx", *named, "--labels", labels), r"none.onnx can't be read: No such file"),
        ((tmp_path, *named, "--labels", labels), "has no saved_model.pb"),
        ((file, *named), "no labels"),
        ((file, *named, "--labels", two), "two.txt has 2 labels, but the model has 3 outputs"),
        ((file, *named, "--labels", labels, "--scaling", "imagnet"), "did you mean 'imagenet'"),
        ((file, *named, "--labels", labels, "--image-size", "big"), "--image-size big"),
        ((file, *named, "--labels", labels, "--image-size", "32"), "but --image-size is 32x32"),
        ((file, *named, "--labels", labels, "--data", tmp_path / "nowhere"), "nowhere"),
        ((file, *named, "--labels", labels, "--data", tmp_path / "nothing"), "nothing"),
        ((file, *named, "--labels", labels, "--data", wrong), "grey"),
        ((file, *named, "--labels", labels, "--scaling", "imagenet", "--probabilities"), "with --probabilities"),
        ((file, *named, "--labels", labels, "--custom-objects", "layers.py"), "--custom-objects with"),
        ((broken, *named, "--labels", labels, "--scaling", "imagenet"), "NaN or infinite"),
    ]:
        assert run(monkeypatch, models, *arguments) == 1
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ")
        assert problem in error
        assert not models.exists() or not list(models.rglob("*"))


def test_name_with_other_labels_is_kept(
    tmp_path: Path, models: Path, labels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_onnx(tmp_path / "model.onnx")
    options = ("--name", "garden", "--scaling", "divide_by_255")
    assert run(monkeypatch, models, file, *options, "--labels", labels) == 0
    (tmp_path / "other.txt").write_text("a\nb\nc\n")
    assert run(monkeypatch, models, file, *options, "--labels", tmp_path / "other.txt") == 1
    assert "has versions with other labels" in capsys.readouterr().err
    assert run(monkeypatch, models, file, *options, "--labels", labels) == 0
    assert read_metadata(version_folder(models, "garden", 2)).version == 2


def test_full_disk_publishes_nothing(
    tmp_path: Path, models: Path, labels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    file = write_onnx(tmp_path / "model.onnx")
    monkeypatch.setattr("cifar10_serving.runtimes.golden.GoldenAnswers.save", full)
    assert run(monkeypatch, models, file, "--name", "garden", "--labels", labels, "--scaling", "imagenet") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not list(models.rglob("*"))
