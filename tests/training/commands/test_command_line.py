import subprocess
import sys
from pathlib import Path

import pytest

from cifar10_serving.artifacts.layout import read_metadata, version_folder
from tests.conftest import MODELS, ROOT, every_published_version
from tests.training.commands.training_command import last_line, run
from training.cifar10 import MODEL_NAMES


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


def test_versions_are_published_to_another_folder(tmp_path: Path) -> None:
    folders = [version_folder(MODELS, "sequential", version) for version in (1, 2)]
    assert run("publish", "--to", tmp_path, folders[0]).stdout == "sequential version 1: published\n"
    again = run("publish", "--to", tmp_path, *folders)
    assert again.stdout == "sequential version 1: already published\nsequential version 2: published\n"
    wrong = run("publish", "--to", "ftp://host/models", folders[0])
    assert wrong.returncode == 1
    assert "the scheme 'ftp' is not known. Expected: s3://BUCKET/PREFIX" in last_line(wrong.stderr)


def test_help_names_the_command_and_its_options() -> None:
    assert "fit" in run("--help").stdout
    assert "--data FOLDER" in run("fit", "--help").stdout


@pytest.mark.slow
def test_folder_without_pictures_is_rejected_before_training(tmp_path: Path) -> None:
    result = run("fit", "sequential", "--data", str(tmp_path))
    assert result.returncode == 1
    assert (
        f"{tmp_path} has nothing in it. Expected: a folder with one folder of pictures for each class" in result.stderr
    )


def test_list_names_every_model_and_what_is_published() -> None:
    listed = run("list").stdout
    assert all(name in listed for name in MODEL_NAMES)
    for name, version in every_published_version():
        recipe = read_metadata(version_folder(MODELS, name, version)).recipe["name"]
        assert f"version {version}, recipe {recipe}, test accuracy 0." in listed
    assert listed.count("test accuracy 0.") == len(every_published_version())


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
        (["show-dat"], "(did you mean 'show-data'?)"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_mistyped_commands_and_options_name_the_close_one(arguments: list[str], words: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert words in last_line(result.stderr)


@pytest.mark.parametrize(
    ("arguments", "unknown"),
    [
        (["summary", "vgg16", "--data", "folder"], "--data folder"),
        (["fit", "sequential", "--output", "folder"], "--output folder"),
        (["fit", "sequential", "summary"], "summary"),
    ],
)
def test_option_of_another_command_is_not_suggested_and_the_usage_is_this_commands(
    arguments: list[str], unknown: str
) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert last_line(result.stderr).endswith(f"error: unrecognized arguments: {unknown}")
    assert f"usage: python -m training {arguments[0]} [-h]" in result.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["list"]])
def test_help_and_list_answer_without_importing_a_framework(arguments: list[str]) -> None:
    program = (
        "import atexit, sys; from training.__main__ import main; "
        "atexit.register(lambda: print({'tensorflow', 'keras', 'openvino', 'matplotlib'} & set(sys.modules))); "
        f"sys.argv = ['training', *{arguments}]; sys.exit(main())"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert last_line(result.stdout) == "set()"
