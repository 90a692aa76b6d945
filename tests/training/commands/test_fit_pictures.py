"""`fit` on folders of pictures and with an own architecture, as users run it; the metadata say what was done."""

import re
from pathlib import Path

import pytest

from cifar10_serving.artifacts.layout import read_metadata
from cifar10_serving.runtimes.golden import check_golden
from cifar10_serving.runtimes.openvino import OpenVinoRuntime
from tests.training.commands.training_command import last_line, run
from tests.training.photos import write_photos
from tests.training.test_own_architectures import NETWORK

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_plots")]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", {"rose": 20, "moss": 12, "sky": 12})
    return tmp_path / "photos"


def places(folder: Path) -> list[object]:
    return ["--models", folder / "models", "--checkpoints", folder / "checkpoints"]


def test_small_cnn_of_a_folder_is_published_under_its_name_with_the_folders_as_labels(
    photos: Path, tmp_path: Path
) -> None:
    options = ["--recipe", "tutorial", "--epochs", 6, "--batch-size", 8, "--image-size", 16, "--test-fraction", 0.25]
    arguments = ["fit", "sequential", "--data", photos, "--name", "garden", *options, *places(tmp_path)]
    result = run(*arguments)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "models/garden/1"
    metadata = read_metadata(folder)
    assert (metadata.title, metadata.labels, metadata.input_shape) == ("Garden", ["moss", "rose", "sky"], (16, 16, 3))
    assert metadata.recipe["changed"] == ["epochs", "batch_size"]
    assert metadata.training_run.command == (
        "python -m training fit sequential --recipe tutorial --seed 83 --epochs 6 --batch-size 8 --name garden "
        "--image-size 16 --test-fraction 0.25 --data FOLDER"
    )
    dataset = metadata.measured_data
    assert (dataset.name, dataset.train, dataset.validation, dataset.test) == ("photos", 26, 7, 11)
    assert "test images: 0.25 of each class" in dataset.split
    test = metadata.evaluation("test", "float32", "openvino")
    assert test is not None
    assert test.accuracy > 0.9
    assert metadata.golden.n == 11
    check_golden(OpenVinoRuntime().load(folder), folder, metadata, "float32")

    again = run(*arguments)
    assert again.returncode == 0, again.stderr
    assert "decoding" not in again.stdout
    assert read_metadata(tmp_path / "models/garden/2").evaluations[0].correct == metadata.evaluations[0].correct
    repeated = run("evaluate", folder, "--data", photos, "--test-fraction", 0.25, "--checkpoints", tmp_path / "cache")
    assert repeated.returncode == 0, repeated.stderr
    assert "DOES NOT MATCH" not in repeated.stdout
    write_photos(photos, {"daisy": 12})
    warned = run("fit", "sequential", "--data", photos, "--name", "garden", "--no-export", *options, *places(tmp_path))
    assert "warning: garden version 2 has other labels than photos" in warned.stdout
    other = run("evaluate", folder, "--data", photos, "--checkpoints", tmp_path / "cache")
    assert other.returncode == 1
    assert "the data has SHA-256" in last_line(other.stderr)


def test_transfer_model_takes_its_backbone_at_the_size_of_the_pictures(photos: Path, tmp_path: Path) -> None:
    options = ["--image-size", 40, "--epochs", 1, "--batch-size", 16, "--recipe", "tutorial"]
    weights = ["--backbone-weights", "none"]
    result = run("fit", "mobilenetv2", "--data", photos, "--name", "garden", *options, *weights, *places(tmp_path))
    assert result.returncode == 0, result.stderr
    assert read_metadata(tmp_path / "models/garden/1").input_shape == (40, 40, 3)


def test_architecture_of_a_file_is_trained_without_touching_the_tree(photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "my_net.py"
    file.write_text(NETWORK)
    options = ["--architecture", f"{file}:build", "--epochs", 2, "--batch-size", 8, "--learning-rate", 0.01]
    result = run("fit", "--data", photos, "--name", "own", *options, *places(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"running {file}:build, whose SHA-256 is ")
    metadata = read_metadata(tmp_path / "models/own/1")
    assert metadata.architecture == "own architecture, my_net.py:build"
    assert metadata.recipe["changed"] == ["validation_fraction", "epochs", "batch_size", "learning_rate"]
    assert f" {metadata.recipe['architecture_sha256']}" in result.stdout
    assert str(tmp_path) not in (tmp_path / "models/own/1/metadata.json").read_text()


def test_smoke_needs_no_name_and_keeps_nothing(photos: Path, tmp_path: Path) -> None:
    result = run("fit", "functional", "--data", photos, "--precision", "float32", "--smoke", *places(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "smoke run passed" in last_line(result.stdout)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["photos"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["sequential"], "no name for a model of .* --name"),
        (["sequential", "--name", "My Garden"], "the name 'My Garden'"),
        (["sequential", "--name", "garden", "--image-size", "7"], "--image-size 7. Expected: 8 to 1024 pixels"),
        (["vgg16", "--recipe", "tutorial", "--name", "garden", "--image-size", "16"], "at least 32 pixels"),
        (["sequential", "--name", "garden", "--epochs", "0"], "epochs 0 .*Expected: greater than or equal to 1"),
        (["sequential", "--name", "garden", "--weight-decay", "0.1", "--recipe", "tutorial"], "needs adamw or sgd"),
        (["--name", "garden"], "no MODEL. Expected: one of sequential"),
        (["lenet", "--name", "garden"], "no model 'lenet'"),
        (["sequential", "--name", "garden", "--architecture", "a.py"], "both MODEL .sequential. and --architecture"),
        (["--name", "garden", "--architecture", "absent.py:build"], "no file absent.py"),
        (["functional", "--recipe", "distilled", "--name", "garden"], "vgg16/2"),
    ],
)
def test_option_that_can_not_be_used_is_one_clear_line_and_publishes_nothing(
    photos: Path, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    result = run("fit", *arguments, "--data", photos, *places(tmp_path))
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert re.search(reason, line), line
    assert not list((tmp_path / "models").rglob("metadata.json"))


def test_options_of_pictures_are_rejected_for_cifar_10(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").write_bytes(b"")
    result = run("fit", "sequential", "--data", tmp_path, "--image-size", 64)
    assert result.returncode == 1
    assert "--image-size for CIFAR-10, whose images and splits are given" in last_line(result.stderr)
