"""`evaluate` on a real published version, with 64 of the test images in place of all."""

from pathlib import Path

import pytest

from cifar10_serving.artifacts.layout import read_metadata, version_folder
from cifar10_serving.runtimes.golden import check_golden
from cifar10_serving.runtimes.openvino import OpenVinoRuntime, has_bfloat16
from training import __main__ as command_line
from training.cifar10 import CLASS_NAMES
from training.commands.evaluate import MISMATCH
from training.data import Split, cifar10_dataset
from training.evaluate import evaluate


@pytest.fixture
def folder(one_model: Path, golden_split: Split, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A version whose stored evaluation is of these images; the command line is asked to evaluate it."""
    folder = version_folder(one_model, "sequential", 1)
    metadata = read_metadata(folder)
    runtime = OpenVinoRuntime()
    stored, _ = evaluate(runtime, runtime.load(folder), golden_split, "test", CLASS_NAMES)
    (folder / "metadata.json").write_text(metadata.model_copy(update={"evaluations": [stored]}).model_dump_json())
    data = cifar10_dataset(golden_split, golden_split, "golden images", metadata.measured_data.sha256)
    monkeypatch.setattr("training.data.load_cifar10", lambda _folder: data)
    monkeypatch.setattr("sys.argv", ["training", "evaluate", str(folder)])
    return folder


def test_version_that_is_what_its_metadata_says_ends_with_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main() == 0
    stored, now = capsys.readouterr().out.splitlines()
    assert stored.startswith("stored test")
    assert now.endswith(": matches")


def test_version_that_is_not_ends_with_a_code_of_its_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = read_metadata(folder)
    wrong = metadata.evaluations[0].model_copy(update={"correct": metadata.evaluations[0].correct - 1})
    (folder / "metadata.json").write_text(metadata.model_copy(update={"evaluations": [wrong]}).model_dump_json())
    assert command_line.main() == MISMATCH == 3
    assert capsys.readouterr().out.splitlines()[-1].endswith(": DOES NOT MATCH")


def test_add_without_a_precision_to_add_says_so_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["training", "evaluate", str(folder), "--add"])
    before = (folder / "metadata.json").read_bytes()
    assert command_line.main() == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("added  nothing")
    assert (folder / "metadata.json").read_bytes() == before


@pytest.mark.skipif(not has_bfloat16(), reason="this CPU has no bfloat16")
def test_add_measures_in_the_precision_that_is_missing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = read_metadata(folder)
    golden = metadata.golden.model_copy(update={"tolerance": {"float32": 1e-3}})
    (folder / "metadata.json").write_text(metadata.model_copy(update={"golden": golden}).model_dump_json())
    monkeypatch.setattr("sys.argv", ["training", "evaluate", str(folder), "--add"])
    assert command_line.main() == 0
    assert " bfloat16: " in capsys.readouterr().out.splitlines()[-1]
    complete = read_metadata(folder)
    assert complete.evaluation("test", "bfloat16", "openvino")
    assert check_golden(OpenVinoRuntime("bfloat16").load(folder), folder, complete, "bfloat16") > 0
