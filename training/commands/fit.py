"""`python -m training fit MODEL`: train a model by a recipe and publish it, or test the whole process quickly."""

import argparse
import shlex
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cifar10_serving.artifacts.layout import staging_folder
from cifar10_serving.errors import PublishError
from training.cifar10 import MODEL_NAMES
from training.commands.arguments import add_checkpoints, add_data, add_model, add_models, add_recipe
from training.commands.data import add_pictures, has_pictures, image_side, load_data
from training.commands.describe import describe_evaluation, describe_published
from training.errors import RecipeError
from training.published import Name, newest_labels

if TYPE_CHECKING:
    from training.data import Dataset
    from training.recipes import Recipe

WHEN_STOPPED: Final = ": nothing was published; the same command resumes after the last finished epoch"
SMOKE_TRAIN: Final = 640
SMOKE_TEST: Final = 256
SMOKE_PIXELS: Final = 32 * 32
MIN_SMOKE: Final = 16
CHANGED_BY_OPTIONS: Final = ("epochs", "batch_size", "learning_rate", "weight_decay", "precision", "split_seed")
"""Fields of a recipe with an option of the same name."""


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_model(command)
    add_recipe(command)
    add_name(command)
    command.add_argument(
        "--smoke",
        action="store_true",
        help=f"test the whole process in seconds on {SMOKE_TRAIN} training images, and keep nothing",
    )
    command.add_argument(
        "--no-export", action="store_true", help="train only, and keep the checkpoint; `export` publishes it later"
    )
    add_checkpoints(command)
    add_data(command)
    add_pictures(command)
    add_models(command)


def add_name(command: argparse.ArgumentParser) -> None:
    """Add --name and --title."""
    command.add_argument("--name", metavar="NAME", help="name to publish as, such as garden; default: MODEL's")
    command.add_argument("--title", metavar="TEXT", help="title for readers; default: made from the name")


def run(arguments: argparse.Namespace) -> int:
    """Train, export, evaluate and publish."""
    if arguments.smoke:
        arguments.when_stopped = ""  # a smoke run can't be resumed
    recipe = chosen_recipe(arguments)  # reports a mistyped name before anything slow is imported
    from training.allocation import keep_memory

    keep_memory()
    if not arguments.smoke:
        _train(arguments, recipe, published_name(arguments, recipe))
        return 0
    from training.recipes import smoke

    with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
        data = _few(load_data(arguments, limit=SMOKE_TRAIN + SMOKE_TEST, cache=Path(folder)))
        _try_out(smoke(recipe), data, Path(folder), teachers=arguments.models)
    return 0


def chosen_recipe(arguments: argparse.Namespace) -> "Recipe":
    """Return the recipe by MODEL or --architecture, --recipe, the options that change it, and the size of the images.

    Raises:
        RecipeError: there is no such model or recipe, or an option doesn't go with it.
        ArchitectureError: the file of --architecture can't be run.
        DatasetError: an option doesn't go with the data.
    """
    from training.recipes import (
        for_pictures,
        get_recipe,
        held_out,
        with_backbone_weights,
        with_changes_named,
        with_field,
        with_seed,
        without_flips,
    )

    pictures = hasattr(arguments, "image_size") and has_pictures(arguments)
    own = arguments.architecture is not None
    recipe = get_recipe(arguments.recipe or ("tuned" if pictures or own else "tutorial"), _chosen_model(arguments))
    if pictures:
        recipe = for_pictures(recipe, image_side(arguments))
    if arguments.seed is not None:
        recipe = with_seed(recipe, arguments.seed)
    for field in CHANGED_BY_OPTIONS:
        value = getattr(arguments, field, None)
        if value is not None:
            recipe = with_field(recipe, field, value)
    if arguments.no_flip:
        recipe = without_flips(recipe)
    if arguments.backbone_weights is not None:
        recipe = with_backbone_weights(recipe, arguments.backbone_weights)
    return with_changes_named(held_out(recipe) if arguments.held_out else recipe)


def _chosen_model(arguments: argparse.Namespace) -> str:
    if (arguments.model is None) == (arguments.architecture is None):
        both = arguments.model is not None
        raise RecipeError(
            f"both MODEL ({arguments.model}) and --architecture" if both else "no MODEL",
            expected=f"one of {', '.join(MODEL_NAMES)}, or --architecture FILE.py:FUNCTION",
        )
    if arguments.architecture is None:
        return str(arguments.model)
    from training.own_architectures import load_file

    own = load_file(arguments.architecture)
    print(f"running {arguments.architecture}, whose SHA-256 is {own.sha256}")
    return own.name


def published_name(arguments: argparse.Namespace, recipe: "Recipe") -> Name:
    """Return the name and title to publish as.

    Raises:
        PublishError: the name or title can't be published, or pictures have none.
        DatasetError: there are no pictures.
    """
    name = arguments.name
    if name is None:
        pictures = has_pictures(arguments)
        if pictures:
            from training.data.listing import list_pictures

            list_pictures(arguments.data)  # a wrong place is the first thing to say
        if pictures or recipe.model not in MODEL_NAMES:
            raise PublishError(
                f"no name for a model of {arguments.data or 'CIFAR-10'}",
                expected="a name to publish as: --name NAME",
                remedy="choose one, such as --name garden; the next run with it publishes the next version",
            )
        return Name.of_the_six(recipe.model, title=arguments.title)
    return Name.checked(name, title=arguments.title)


def command_line(recipe: "Recipe", arguments: argparse.Namespace) -> str:
    """Return the command that repeats the run, without this machine's paths."""
    words = ["python -m training fit"]
    words += [recipe.model] if arguments.architecture is None else ["--architecture", shlex.quote(recipe.model)]
    words += ["--recipe", recipe.name, "--seed", str(recipe.seed)]
    for field in CHANGED_BY_OPTIONS:
        if field in recipe.changed:
            words += [f"--{field.replace('_', '-')}", str(getattr(recipe, field))]
    if arguments.no_flip:
        words += ["--no-flip"]
    if "backbone_weights" in recipe.changed:
        words += ["--backbone-weights", shlex.quote(recipe.published()["backbone_weights"])]
    if arguments.held_out and "validation_fraction" in recipe.changed:
        words += ["--held-out"]
    for option in ("name", "title", "image_size", "test_fraction"):
        value = getattr(arguments, option, None)
        if value is not None:
            words += [f"--{option.replace('_', '-')}", shlex.quote(str(value))]
    if arguments.data is not None:
        words += ["--data", "FOLDER"]
    return " ".join(words)


def _train(arguments: argparse.Namespace, recipe: "Recipe", name: Name) -> None:
    models, checkpoints = arguments.models, arguments.checkpoints
    from training.backend import require_tensorflow
    from training.calibration import calibrated
    from training.checkpoint import Checkpoint
    from training.fit import fit
    from training.progress import for_terminal

    if not arguments.no_export:
        require_tensorflow("exporting")
    with staging_folder(models, name.name):
        pass  # reports a read-only folder now, not after hours
    data = load_data(arguments)
    _tell_other_labels(models, name.name, data)
    checkpoint = Checkpoint(checkpoints, recipe, data.sha256)
    checkpoint.require_writable()
    with for_terminal() as progress:
        trained = fit(
            recipe, data, checkpoint=checkpoint, features_folder=checkpoints, models=models, progress=progress
        )
        if has_pictures(arguments) and not arguments.no_export:
            trained = calibrated(trained, progress)
    if arguments.no_export:
        print(f"training finished; the checkpoint is in {checkpoint.file}")
        return
    from training.export import export  # imports TensorFlow and OpenVINO, which training on JAX doesn't need

    metadata = export(trained, data, models, command=command_line(recipe, arguments), name=name)
    print(describe_published(metadata, models))
    checkpoint.discard()


def _tell_other_labels(models: Path, name: str, data: "Dataset") -> None:
    """Say so if the newest version of this name has other labels: its clients would get them with the next version."""
    newest = newest_labels(models, name)
    if newest is not None and tuple(newest[1]) != data.labels:
        print(f"warning: {name} version {newest[0]} has other labels than {data.name}; --name gives another name")


def _try_out(recipe: "Recipe", data: "Dataset", folder: Path, *, teachers: Path) -> None:
    from training.backend import require_tensorflow
    from training.fit import fit
    from training.progress import for_terminal

    require_tensorflow("exporting")
    from training.export import export

    with for_terminal() as progress:
        trained = fit(recipe, data, features_folder=folder, models=teachers, progress=progress)
    metadata = export(trained, data, folder / "models", command="smoke")
    for entry in metadata.evaluations:
        print(f"  {describe_evaluation(entry)}")
    print(f"smoke run passed: {recipe.model} with recipe {recipe.name} trains, exports and predicts; nothing was kept")


def _few(data: "Dataset") -> "Dataset":
    height, width, _ = data.train.input_shape
    share = min(1, SMOKE_PIXELS / (height * width))  # fewer large images, so that it takes seconds all the same
    train = data.train.take(range(min(max(MIN_SMOKE, int(SMOKE_TRAIN * share)), len(data.train))))
    test = data.test.take(range(min(max(MIN_SMOKE, int(SMOKE_TEST * share)), len(data.test))))
    return replace(data, train=train, test=test, source=f"the first of {data.source}")
