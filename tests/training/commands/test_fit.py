"""`fit`, `export` and `temperature`, on real images that stand in for the official files; real signals, too."""

import io
import os
import pty
import re
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from cifar10_serving.artifacts.layout import read_metadata
from tests.training.commands.short_runs import run
from tests.training.commands.training_command import last_line
from training.__main__ import _parser as command_line_parser
from training.checkpoint import Checkpoint
from training.commands.fit import chosen_recipe, command_line
from training.recipes import get_recipe

pytestmark = pytest.mark.slow


def places(folder: Path) -> list[object]:
    return ["--models", folder / "models", "--checkpoints", folder / "checkpoints"]


def test_fit_publishes_and_prints_a_line_an_epoch_where_there_is_no_terminal(tmp_path: Path) -> None:
    result = run(2, "fit", "functional", *places(tmp_path))
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("epoch 1/2: loss ")
    assert "validation loss" in lines[1]
    assert "\x1b" not in result.stdout + result.stderr
    assert "\r" not in result.stdout + result.stderr
    metadata = read_metadata(tmp_path / "models/functional/1")
    assert metadata.training_run.command == "python -m training fit functional --recipe tutorial --seed 84"
    assert list((tmp_path / "checkpoints").iterdir()) == []


def repeating_command(*words: str) -> str:
    """Return the command that the metadata of a run with these options name."""
    arguments = command_line_parser().parse_args(["fit", *words])
    return command_line(chosen_recipe(arguments), arguments)


def test_command_that_repeats_the_run_names_the_weights_where_the_recipe_has_others() -> None:
    assert repeating_command("vgg16") == "python -m training fit vgg16 --recipe tutorial --seed 86"
    weights = ["--backbone-weights", "none"]
    assert repeating_command("vgg16", *weights).endswith(" --seed 86 --backbone-weights none")


def test_command_that_repeats_a_held_out_run_says_so() -> None:
    usual = repeating_command("functional", "--recipe", "tuned")
    assert usual == "python -m training fit functional --recipe tuned --seed 84"
    assert repeating_command("functional", "--recipe", "tuned", "--held-out") == f"{usual} --held-out"


def test_command_that_repeats_a_run_names_each_changed_number() -> None:
    options = ["--epochs", "3", "--batch-size", "64", "--learning-rate", "0.01", "--precision", "mixed_bfloat16"]
    assert repeating_command("functional", "--no-flip", *options) == (
        f"python -m training fit functional --recipe tutorial --seed 84 {' '.join(options)} --no-flip"
    )


@pytest.mark.usefixtures("quick_plots")
def test_held_out_run_validates_and_is_not_the_run_on_all_images(tmp_path: Path) -> None:
    asked = ["sequential", "--recipe", "tuned", *places(tmp_path)]
    held = run(1, "fit", *asked, "--held-out", "--no-export")
    assert held.returncode == 0, held.stderr
    assert "validation loss" in held.stdout
    assert "has 0 of 1 epochs of this run" in run(1, "export", *asked).stderr
    assert run(1, "export", *asked, "--held-out").returncode == 0
    metadata = read_metadata(tmp_path / "models/sequential/1")
    assert (metadata.measured_data.train, metadata.measured_data.validation) == (115, 13)
    assert "--held-out" in metadata.training_run.command


def test_terminal_sees_rate_and_time_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    terminal, its_end = pty.openpty()
    seen: list[bytes] = []

    def look() -> None:
        with suppress(OSError):  # how Linux says that the other end is closed
            while part := os.read(terminal, 65536):
                seen.append(part)

    looking = threading.Thread(target=look)
    looking.start()
    with os.fdopen(its_end, "w") as stdout:
        result = run(3, "fit", "sequential", "--no-export", *places(tmp_path), stdout=stdout)
    looking.join()
    os.close(terminal)
    assert result.returncode == 0, result.stderr
    text = b"".join(seen).decode()
    assert "images/s" in text
    assert "left" in text
    assert "epoch 3/3" in text


@pytest.mark.usefixtures("quick_plots")
def test_smoke_goes_the_whole_way_and_keeps_nothing(tmp_path: Path) -> None:
    result = run(20, "fit", "sequential", "--smoke", *places(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "epoch 2/2" in result.stdout
    assert "openvino" in result.stdout
    assert "nothing was kept" in last_line(result.stdout)
    assert list(tmp_path.iterdir()) == []


class Interrupted(io.StringIO):
    """Sends this process the signal of Ctrl-C at the end of the first line."""

    def write(self, text: str) -> int:
        ends_line = "\n" in text and "\n" not in self.getvalue()
        written = super().write(text)
        if ends_line:
            signal.raise_signal(signal.SIGINT)
        return written


def test_ctrl_c_says_what_is_left_and_how_to_go_on(tmp_path: Path) -> None:
    result = run(500, "fit", "sequential", *places(tmp_path), stdout=Interrupted())
    assert result.returncode == 130
    assert last_line(result.stderr).startswith("stopped: nothing was published; the same command resumes")
    assert "Traceback" not in result.stderr
    assert list((tmp_path / "models").iterdir()) == []
    recipe = get_recipe("tutorial", "sequential").model_copy(update={"epochs": 500, "batch_size": 32})
    assert 1 <= Checkpoint(tmp_path / "checkpoints", recipe, "0" * 64).epochs_done() < 500


@pytest.mark.usefixtures("quick_plots")
def test_ctrl_c_in_a_smoke_run_promises_nothing_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = run(20, "fit", "sequential", "--smoke", *places(tmp_path), stdout=Interrupted())
    assert result.stdout.startswith("epoch 1/2")
    assert result.returncode == 130
    assert last_line(result.stderr) == "stopped"
    # If the signal comes as late as the export, TensorFlow may leave a file of its own.
    assert [entry for entry in tmp_path.iterdir() if not entry.name.startswith("__autograph")] == []


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """As on a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write itself shall fail
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("quick_plots")
def test_export_of_a_run_that_is_unfinished_then_on_a_full_disk_then_as_it_should_be(tmp_path: Path) -> None:
    export = ["export", "sequential", *places(tmp_path)]
    rejected = run(2, *export)
    assert rejected.returncode == 1
    assert "has 0 of 2 epochs of this run" in last_line(rejected.stderr)
    assert "python -m training fit sequential" in last_line(rejected.stderr)
    assert f"--checkpoints {tmp_path / 'checkpoints'}" in last_line(rejected.stderr)
    assert run(2, "fit", "sequential", "--no-export", *places(tmp_path)).returncode == 0
    assert list((tmp_path / "models").iterdir()) == []
    with files_of_at_most(1_000_000):
        failed = run(2, *export)
    assert failed.returncode == 1, failed.stderr
    assert "can't write" in last_line(failed.stderr)
    assert "Traceback" not in failed.stderr
    assert list((tmp_path / "models").iterdir()) == []
    result = run(2, *export)
    assert result.returncode == 0, result.stderr
    assert len(read_metadata(tmp_path / "models/sequential/1").training_run.history) == 2
    assert "the checkpoint is kept in" in last_line(result.stdout)


@pytest.mark.parametrize("option", ["--models", "--checkpoints"])
def test_place_that_can_not_be_written_to_is_told_before_training(tmp_path: Path, option: str) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    result = run(2, "fit", "sequential", *places(tmp_path), option, tmp_path / "file")
    assert result.returncode == 1
    assert "can't write" in last_line(result.stderr)
    assert option in last_line(result.stderr)
    assert "epoch" not in result.stdout


def test_temperature_of_a_recipe_is_found_on_images_held_out_and_nothing_is_published(tmp_path: Path) -> None:
    result = run(1, "temperature", "functional", "--checkpoints", tmp_path / "checkpoints")
    assert result.returncode == 0, result.stderr
    assert re.search(r"functional, tutorial: 26 held-out images, temperature \d\.\d\d$", result.stdout, re.MULTILINE)
    before, after = re.findall(r"loss (\d+\.\d{4})$", result.stdout, re.MULTILINE)[-2:]
    assert float(after) <= float(before)
    assert not (tmp_path / "models").exists()


@pytest.mark.usefixtures("quick_plots")
def test_transfer_model_goes_the_whole_way_from_a_weights_file(tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(9)
    backbone = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3))
    file = tmp_path / "mobilenetv2.weights.h5"
    backbone.save_weights(file)
    result = run(2, "fit", "mobilenetv2", "--backbone-weights", file, *places(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "computing the frozen backbone's features of 128 images" in result.stdout
    metadata = read_metadata(tmp_path / "models/mobilenetv2/1")
    assert metadata.training_run.command.endswith("--backbone-weights mobilenetv2.weights.h5")
    assert metadata.parameters.trainable == 172_874
    (features,) = (tmp_path / "checkpoints").iterdir()
    assert np.load(features, mmap_mode="r").shape == (128, 1280)
