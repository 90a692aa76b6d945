import subprocess
import sys
from pathlib import Path

import pytest

from catalog.labels import MODEL_NAMES
from tests.conftest import PUBLISHED, ROOT


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "lenet"], "no architecture for model 'lenet'. Expected: one of sequential, functional, subclassing."),
        (["fit", "sequential", "--recipe", "best"], "no recipe 'best'. Expected: one of tutorial."),
        (["fit", "sequential", "--seed", "-1"], "seed -1. Expected: a whole number from 0"),
        (["fit", "sequential", "--data", "nowhere"], "no folder nowhere."),
    ],
)
def test_wrong_arguments_end_with_one_clear_line(arguments: list[str], words: str) -> None:
    result = run(*arguments)
    assert result.returncode == 1
    assert last_line(result.stderr).startswith("error: ")
    assert words in last_line(result.stderr)
    assert "Traceback" not in result.stderr


def test_help_names_the_command_and_its_options() -> None:
    assert "fit" in run("--help").stdout
    assert "--data FOLDER" in run("fit", "--help").stdout


@pytest.mark.slow
def test_folder_without_cifar10_is_refused_before_training(tmp_path: Path) -> None:
    result = run("fit", "sequential", "--data", str(tmp_path))
    assert result.returncode == 1
    assert f"no CIFAR-10 in {tmp_path}" in last_line(result.stderr)


def test_list_names_every_model_and_what_is_published() -> None:
    listed = run("list").stdout
    assert all(name in listed for name in MODEL_NAMES)
    assert listed.count("version 1, recipe tutorial, test accuracy 0.") == len(PUBLISHED)


@pytest.mark.slow
def test_evaluate_of_a_folder_without_a_version_is_a_clear_error(tmp_path: Path) -> None:
    result = run("evaluate", str(tmp_path))
    assert result.returncode == 1
    assert "metadata.json is not there" in last_line(result.stderr)
