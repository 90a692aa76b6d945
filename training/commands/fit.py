"""`python -m training fit MODEL`: train a model by a recipe and publish it, or test the whole process quickly."""

import argparse
import shlex
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cifar10_serving.artifacts.layout import staging_folder
from training.commands.arguments import add_checkpoints, add_data, add_model, add_models, add_recipe
from training.commands.describe import describe_evaluation, describe_published

if TYPE_CHECKING:
    from training.data import Dataset
    from training.recipes import Recipe

WHEN_STOPPED: Final = ": nothing was published; the same command resumes after the last finished epoch"
SMOKE_TRAIN: Final = 640
SMOKE_TEST: Final = 256


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_model(command)
    add_recipe(command)
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
    add_models(command)


def run(arguments: argparse.Namespace) -> int:
    """Train, export, evaluate and publish."""
    if arguments.smoke:
        arguments.when_stopped = ""  # a smoke run can't be resumed
    recipe = chosen_recipe(arguments)  # reports a mistyped name before anything slow is imported
    from training.allocation import keep_memory
    from training.data import load_cifar10
    from training.recipes import smoke

    keep_memory()
    if not arguments.smoke:
        _train(arguments, recipe, arguments.models, arguments.checkpoints)
        return 0
    data = _few(load_cifar10(arguments.data))
    with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
        _try_out(smoke(recipe), data, Path(folder), teachers=arguments.models)
    return 0


def chosen_recipe(arguments: argparse.Namespace) -> "Recipe":
    """Return the recipe by MODEL, --recipe, --seed, --backbone-weights and --held-out."""
    from training.recipes import get_recipe, held_out, with_backbone_weights, with_seed

    recipe = get_recipe(arguments.recipe, arguments.model)
    if arguments.seed is not None:
        recipe = with_seed(recipe, arguments.seed)
    if arguments.backbone_weights is not None:
        recipe = with_backbone_weights(recipe, arguments.backbone_weights)
    return held_out(recipe) if arguments.held_out else recipe


def command_line(recipe: "Recipe", data: Path | None) -> str:
    """Return the command that repeats the run, without this machine's paths."""
    from training.recipes import get_recipe

    words = ["python -m training fit", recipe.model, "--recipe", recipe.name, "--seed", str(recipe.seed)]
    weights = recipe.published()["backbone_weights"]
    if weights != get_recipe(recipe.name, recipe.model).backbone_weights:
        words += ["--backbone-weights", shlex.quote(weights)]
    if recipe.validation_fraction != get_recipe(recipe.name, recipe.model).validation_fraction:
        words += ["--held-out"]
    if data is not None:
        words += ["--data", "FOLDER"]
    return " ".join(words)


def _train(arguments: argparse.Namespace, recipe: "Recipe", models: Path, checkpoints: Path) -> None:
    from training.backend import require_tensorflow
    from training.checkpoint import Checkpoint
    from training.data import load_cifar10
    from training.fit import fit
    from training.progress import for_terminal

    if not arguments.no_export:
        require_tensorflow("exporting")
    with staging_folder(models, recipe.model):
        pass  # reports a read-only folder now, not after hours
    data = load_cifar10(arguments.data)
    checkpoint = Checkpoint(checkpoints, recipe, data.sha256)
    checkpoint.require_writable()
    with for_terminal() as progress:
        trained = fit(
            recipe, data, checkpoint=checkpoint, features_folder=checkpoints, models=models, progress=progress
        )
    if arguments.no_export:
        print(f"training finished; the checkpoint is in {checkpoint.file}")
        return
    from training.export import export  # imports TensorFlow and OpenVINO, which training on JAX doesn't need

    metadata = export(trained, data, models, command=command_line(recipe, arguments.data))
    print(describe_published(metadata, models))
    checkpoint.discard()


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
    train = data.train.take(range(min(SMOKE_TRAIN, len(data.train))))
    test = data.test.take(range(min(SMOKE_TEST, len(data.test))))
    return replace(data, train=train, test=test, source=f"the first of {data.source}")
