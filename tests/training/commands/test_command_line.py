from pathlib import Path

import pytest

from catalog.labels import MODEL_NAMES
from tests.conftest import PUBLISHED
from tests.training.commands.training_command import last_line, run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "lenet"], "no model 'lenet'. Expected: one of sequential, functional, subclassing, vgg16"),
        (["fit", "sequental"], "no model 'sequental' (did you mean 'sequential'?)"),
        (["summary", "vgg"], "no model 'vgg' (did you mean 'vgg16'?)"),
        (["fit", "sequential", "--recipe", "tutorail"], "no recipe 'tutorail' (did you mean 'tutorial'?)"),
        (["fit", "sequential", "--backbone-weights", "none"], "sequential, which has no backbone"),
        (["fit", "sequential", "--recipe", "best"], "no recipe 'best'. Expected: one of tutorial, tuned"),
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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["summry"], "(did you mean 'summary'?)"),
        (
            ["fit", "vgg16", "--recipie", "tutorial"],
            "unrecognized arguments: --recipie tutorial (did you mean '--recipe'?)",
        ),
        (["fit", "vgg16", "--seeds=4"], "(did you mean '--seed'?)"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_mistyped_commands_and_options_name_the_close_one(arguments: list[str], words: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert words in last_line(result.stderr)
