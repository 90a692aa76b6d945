"""`evaluate` on a real published version, with 64 of the test images in place of all."""

from pathlib import Path

import pytest

from catalog.artifact import read_metadata, version_folder
from runtime.openvino import OpenVinoRuntime
from training import __main__ as command_line
from training.commands.evaluate import MISMATCH
from training.data import Cifar10, Split
from training.evaluate import evaluate


@pytest.fixture
def folder(one_model: Path, golden_split: Split, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A version whose stored evaluation is of these images; the command line is asked to evaluate it."""
    folder = version_folder(one_model, "sequential", 1)
    metadata = read_metadata(folder)
    runtime = OpenVinoRuntime()
    stored, _ = evaluate(runtime, runtime.load(folder), golden_split, "test")
    (folder / "metadata.json").write_text(metadata.model_copy(update={"evaluations": [stored]}).model_dump_json())
    data = Cifar10(golden_split, golden_split, "golden images", metadata.dataset.sha256)
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
