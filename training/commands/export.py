"""`python -m training export MODEL`: publish a finished run that was not published.

With `--for triton` it writes published versions as a model repository instead.
"""

import argparse
from pathlib import Path
from typing import Final

from cifar10_serving.artifacts.layout import read_metadata, version_folder
from cifar10_serving.errors import PublishError
from training.cifar10 import MODEL_NAMES
from training.commands.arguments import add_architecture, add_checkpoints, add_data, add_models, add_recipe
from training.commands.data import add_pictures, has_pictures, load_data
from training.commands.describe import describe_published
from training.commands.fit import add_name, chosen_recipe, command_line, published_name
from training.published import versions_by_model
from training.triton import has_saved_model, write_triton_repository

TRITON: Final = "triton"


def add(command: argparse.ArgumentParser) -> None:
    """Add the options: those of the run to publish, or of the model repository to write."""
    command.description = (
        "Publishes a finished run, identified by MODEL and the run's options. With --for triton, writes the newest "
        "published version of MODEL, or of every model, as a model repository for Triton's OpenVINO backend. Nothing "
        "is trained."
    )
    command.add_argument("model", nargs="?", metavar="MODEL", help=f"one of {', '.join(MODEL_NAMES)}")
    command.add_argument("--for", dest="server", choices=[TRITON], help="write a model repository for this server")
    command.add_argument(
        "--to",
        type=Path,
        default=Path("model_repository"),
        metavar="FOLDER",
        help="with --for: folder of the model repository; default: model_repository",
    )
    add_architecture(command)
    add_recipe(command)
    add_name(command)
    add_checkpoints(command)
    add_data(command)
    add_pictures(command)
    add_models(command)


def run(arguments: argparse.Namespace) -> int:
    """Publish from the checkpoint, without training; keep the checkpoint."""
    if arguments.server == TRITON:
        return _export_for_triton(arguments)
    if arguments.model is None and arguments.architecture is None:
        raise PublishError("no MODEL", expected=f"one of {', '.join(MODEL_NAMES)}, or --for {TRITON}")
    recipe = chosen_recipe(arguments)
    name = published_name(arguments, recipe)
    from training.backend import require_tensorflow
    from training.calibration import calibrated
    from training.checkpoint import Checkpoint
    from training.errors import CheckpointError
    from training.fit import fit
    from training.progress import Lines

    require_tensorflow("exporting")
    from training.export import export

    data = load_data(arguments)
    checkpoint = Checkpoint(arguments.checkpoints, recipe, data.sha256)
    done = checkpoint.epochs_done()
    if done < recipe.epochs:
        raise CheckpointError(
            f"{arguments.checkpoints} has {done} of {recipe.epochs} epochs of this run",
            expected="a finished run with this recipe, seed and data",
            remedy=f"{command_line(recipe, arguments)} --checkpoints {arguments.checkpoints}",
        )
    trained = fit(recipe, data, checkpoint=checkpoint, features_folder=arguments.checkpoints)
    if has_pictures(arguments):
        trained = calibrated(trained, Lines())
    metadata = export(trained, data, arguments.models, command=command_line(recipe, arguments), name=name)
    print(describe_published(metadata, arguments.models))
    print(f"the checkpoint is kept in {checkpoint.file}")
    return 0


def _export_for_triton(arguments: argparse.Namespace) -> int:
    published = versions_by_model(arguments.models) if arguments.models.is_dir() else {}
    newest = {name: max(versions) for name, versions in published.items()}
    found = newest if arguments.model is None else {name: newest[name] for name in newest if name == arguments.model}
    if not found:
        raise PublishError(
            f"no published version of {arguments.model or 'any model'} in {arguments.models}",
            expected="at least one published version",
            remedy="pass the folder of the published versions with --models",
        )
    if arguments.model is None:
        found = {name: version for name, version in found.items() if _is_for_triton(arguments.models, name, version)}
    for name, version in found.items():
        print(f"{write_triton_repository(arguments.models, name, version, arguments.to)}, version {version}")
    if found:
        print(f"tritonserver --model-repository={arguments.to.absolute()}")
    return 0


def _is_for_triton(models: Path, name: str, version: int) -> bool:
    if has_saved_model(read_metadata(version_folder(models, name, version))):
        return True
    print(f"left out: {name} version {version} has no SavedModel, as it was imported from ONNX")
    return False
