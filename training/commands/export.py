"""`python -m training export MODEL`: publishes a run that has trained all its epochs and was not published.

With `--for triton` it writes what is published for that server instead.
"""

import argparse
from pathlib import Path
from typing import Final

from cifar10_serving.artifacts.labels import MODEL_NAMES
from cifar10_serving.artifacts.layout import published_versions
from cifar10_serving.errors import PublishError
from training.commands.arguments import add_checkpoints, add_data, add_models, add_recipe
from training.commands.describe import describe_published
from training.commands.fit import chosen_recipe, command_line
from training.triton import write_triton_repository

TRITON: Final = "triton"


def add(command: argparse.ArgumentParser) -> None:
    """The options; the same as those of the run, or where a server's files are to be written."""
    command.description = (
        "Publishes a finished run by MODEL and its options. With --for triton the newest published version of MODEL, "
        "or of every model, is written as a model repository of Triton's OpenVINO backend; nothing is trained."
    )
    command.add_argument("model", nargs="?", metavar="MODEL", help=f"one of {', '.join(MODEL_NAMES)}")
    command.add_argument("--for", dest="server", choices=[TRITON], help="write what is published for this server")
    command.add_argument(
        "--to",
        type=Path,
        default=Path("model_repository"),
        metavar="FOLDER",
        help="with --for: the repository to write into: model_repository",
    )
    add_recipe(command)
    add_checkpoints(command)
    add_data(command)
    add_models(command)


def run(arguments: argparse.Namespace) -> int:
    """Publish from the kept state; training nothing, and leaving the state where it is."""
    if arguments.server == TRITON:
        return _export_for_triton(arguments)
    if arguments.model is None:
        raise PublishError("no MODEL", expected=f"one of {', '.join(MODEL_NAMES)}, or --for {TRITON}")
    recipe = chosen_recipe(arguments)
    from training.backend import require_tensorflow
    from training.checkpoint import Checkpoint
    from training.data import load_cifar10
    from training.errors import CheckpointError
    from training.fit import fit

    require_tensorflow("exporting")
    from training.export import export

    data = load_cifar10(arguments.data)
    checkpoint = Checkpoint(arguments.checkpoints, recipe, data.sha256)
    done = checkpoint.epochs_done()
    if done < recipe.epochs:
        raise CheckpointError(
            f"{done} of {recipe.epochs} epochs of this run are done in {arguments.checkpoints}",
            expected="a run with all its epochs, by this recipe, seed and data",
            remedy=f"{command_line(recipe, arguments.data)} --checkpoints {arguments.checkpoints}",
        )
    trained = fit(recipe, data.train, checkpoint=checkpoint, features_folder=arguments.checkpoints)
    metadata = export(trained, data, arguments.models, command=command_line(recipe, arguments.data))
    print(describe_published(metadata, arguments.models))
    print(f"the state stays in {checkpoint.file}")
    return 0


def _export_for_triton(arguments: argparse.Namespace) -> int:
    names = [arguments.model] if arguments.model else list(MODEL_NAMES)
    newest = {name: max(published_versions(arguments.models, name), default=None) for name in names}
    found = {name: version for name, version in newest.items() if version is not None}
    if not found:
        raise PublishError(
            f"nothing is published of {', '.join(names)} in {arguments.models}",
            expected="a published version",
            remedy="give the folder of the published versions with --models",
        )
    for name, version in found.items():
        print(f"{write_triton_repository(arguments.models, name, version, arguments.to)}, version {version}")
    print(f"tritonserver --model-repository={arguments.to.absolute()}")
    return 0
