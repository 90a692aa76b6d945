"""Quantization of a real published version, with 64 of the test images in place of all."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cifar10_serving.artifacts.layout import METADATA_FILE, file_records, read_metadata, verify, version_folder
from cifar10_serving.artifacts.metadata import INT8_FILE, INT8_WEIGHTS_FILE, ModelMetadata
from cifar10_serving.errors import ModelLoadError, PublishError
from cifar10_serving.runtimes.golden import check_golden
from cifar10_serving.runtimes.openvino import OpenVinoRuntime
from training import __main__ as command_line
from training.cifar10 import CLASS_NAMES
from training.data import Dataset, Split, cifar10_dataset
from training.errors import DatasetError, QuantizationError
from training.evaluate import evaluate
from training.quantize import class_check, quantize

COMMAND = "python -m training quantize models/sequential/1"


@pytest.fixture
def folder(one_model: Path, golden_split: Split) -> Path:
    """A version whose stored evaluation is of these images."""
    folder = version_folder(one_model, "sequential", 1)
    runtime = OpenVinoRuntime()
    stored, _ = evaluate(runtime, runtime.load(folder), golden_split, "test", CLASS_NAMES)
    write(folder, read_metadata(folder).model_copy(update={"evaluations": [stored]}))
    return folder


@pytest.fixture
def data(folder: Path, golden_split: Split) -> Dataset:
    """The data set of that evaluation, with every image twice for training."""
    train = golden_split.take(np.tile(np.arange(64), 2))
    return cifar10_dataset(train, golden_split, "golden images", read_metadata(folder).measured_data.sha256)


def write(folder: Path, metadata: ModelMetadata) -> None:
    (folder / METADATA_FILE).write_text(metadata.model_dump_json())


def test_version_gets_a_measured_int8_network_and_keeps_everything_else(folder: Path, data: Dataset) -> None:
    before, lines = file_records(folder), list[str]()
    metadata = quantize(folder, data, command=COMMAND, progress=lines.append)
    assert read_metadata(folder) == metadata
    verify(folder, metadata)
    assert file_records(folder) == before | {name: metadata.files[name] for name in (INT8_FILE, INT8_WEIGHTS_FILE)}
    assert not [entry.name for entry in folder.iterdir() if entry.name.startswith(".")]

    model = OpenVinoRuntime("int8").load(folder)
    assert check_golden(model, folder, metadata, "int8") > 0
    evaluation, reference = (metadata.evaluation("test", precision, "openvino") for precision in ("int8", "float32"))
    assert evaluation is not None
    assert reference is not None
    assert evaluation.n == 64
    assert evaluation.correct == int((model.predict(data.test.pixels).argmax(axis=1) == data.test.labels).sum())
    assert abs(evaluation.correct - reference.correct) <= 3

    record = metadata.quantization
    assert record is not None
    assert len(record.trials) >= 3
    assert record.trials[2].float32_layers
    assert lines[0].startswith("float32: ")
    assert len(lines) == 1 + len(record.trials)
    assert (folder / INT8_WEIGHTS_FILE).stat().st_size < 0.5 * (folder / "saved_model.pb").stat().st_size


def test_version_with_int8_is_left_alone(folder: Path, data: Dataset) -> None:
    metadata = read_metadata(folder)
    check = class_check(*[np.eye(10, dtype=np.float32)] * 4)
    golden = metadata.golden.model_copy(update={"classes": {"int8": check}})
    files = metadata.files | dict.fromkeys((INT8_FILE, INT8_WEIGHTS_FILE), metadata.files["saved_model.pb"])
    write(folder, metadata.model_copy(update={"golden": golden, "files": files}))
    (folder / "int8").mkdir()
    for name in (INT8_FILE, INT8_WEIGHTS_FILE):
        (folder / name).write_bytes((folder / "saved_model.pb").read_bytes())
    with pytest.raises(QuantizationError, match="has an int8 network already"):
        quantize(folder, data, command=COMMAND)
    assert (folder / INT8_FILE).exists()


def test_too_few_training_images_are_an_error(folder: Path, data: Dataset) -> None:
    with pytest.raises(DatasetError, match="5 training images"):
        quantize(folder, replace(data, train=data.train.take(np.arange(5))), command=COMMAND)


def test_failure_at_the_end_leaves_the_version_as_it_was(
    folder: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch, one_way: None
) -> None:
    def fail(*_: object) -> None:
        raise PublishError("the disk is full")

    before = file_records(folder), (folder / METADATA_FILE).read_bytes()
    monkeypatch.setattr("training.quantize.write_published", fail)
    with pytest.raises(PublishError, match="disk is full"):
        quantize(folder, data, command=COMMAND)
    assert (file_records(folder), (folder / METADATA_FILE).read_bytes()) == before


def test_rest_of_a_killed_run_is_replaced_and_the_command_says_what_it_did(
    folder: Path,
    data: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    one_way: None,
) -> None:
    (folder / "int8").mkdir()
    (folder / "int8/rest").touch()
    monkeypatch.setattr("training.data.load_cifar10", lambda _folder: data)
    monkeypatch.setattr("sys.argv", ["training", "quantize", str(folder), "--seed", "5"])
    assert command_line.main() == 0
    assert sorted(file.name for file in (folder / "int8").iterdir()) == ["model.bin", "model.xml"]
    record = read_metadata(folder).quantization
    assert record is not None
    assert record.command == "python -m training quantize models/sequential/1 --seed 5"
    assert "openvino" in capsys.readouterr().out.splitlines()[-1]


@pytest.fixture
def one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try only the quickest way."""
    from training import quantize as module

    monkeypatch.setattr(module, "WAYS", module.WAYS[:1])
    monkeypatch.setattr(module, "LARGEST_DROP", 1.0)


def rows(*leads: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Return answers of two classes; a positive lead is the first one's."""
    return np.asarray([[(1 + value) / 2, (1 - value) / 2] for value in leads], np.float32)


def test_check_allows_what_was_seen_and_no_more() -> None:
    check = class_check(rows(0.9, 0.3, 0.2), rows(0.8, -0.1, 0.2), rows(0.9, 0.8), rows(0.9, 0.8))
    assert check.margin == pytest.approx(0.3)  # of the class that changed
    assert check.mean_difference == pytest.approx(3 * (0.05 + 0.2 + 0) / 3)


def test_check_of_equal_answers_still_has_limits() -> None:
    check = class_check(rows(0.9), rows(0.9), rows(0.9), rows(0.9))
    assert check.margin > 0
    assert check.mean_difference == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda answers: answers[:, ::-1].copy(), "other classes"),
        (lambda answers: np.full_like(answers, 0.1), "on average"),
        (lambda answers: answers * np.nan, "on average"),
    ],
    ids=["other classes", "no answer", "NaN"],
)
def test_wrong_int8_network_fails_its_golden_check(folder: Path, spoil: Callable[[object], object], words: str) -> None:
    metadata, model = read_metadata(folder), OpenVinoRuntime().load(folder)
    answers = model.predict(np.zeros((1, 32, 32, 3), np.uint8))
    check = class_check(answers, answers, answers, answers)
    golden = metadata.golden.model_copy(update={"classes": {"int8": check}})

    class Spoilt:
        def predict(self, images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> object:
            return spoil(model.predict(images))

    with pytest.raises(ModelLoadError, match=words):
        check_golden(Spoilt(), folder, metadata.model_copy(update={"golden": golden}), "int8")  # type: ignore[arg-type]
