"""`python -m training recalibrate VERSION_FOLDER`: publish a version again at its recipe's current temperature."""

import argparse
from pathlib import Path

from cifar10_serving.artifacts.layout import read_metadata
from training.commands.arguments import add_checkpoints, add_data
from training.commands.data import add_pictures, load_data
from training.commands.describe import describe_published


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    command.description = (
        "Publishes the same weights as the next version, whose graph divides the logits by the recipe's current "
        "temperature; `temperature` finds one. Nothing is trained."
    )
    command.add_argument("folder", type=Path, metavar="VERSION_FOLDER", help="such as models/sequential/2")
    add_checkpoints(command)
    add_data(command)
    add_pictures(command, image_size=False)


def run(arguments: argparse.Namespace) -> int:
    """Publish the new version beside the old one."""
    published = read_metadata(arguments.folder)  # reports a wrong folder before 180 MB are read
    from training.backend import require_tensorflow
    from training.recalibrate import at_todays_temperature

    require_tensorflow("exporting")
    from training.export import export
    from training.published import Name

    data = load_data(arguments, input_shape=published.input_shape)
    models = arguments.folder.resolve().parent.parent
    metadata = export(
        at_todays_temperature(arguments.folder, data),
        data,
        models,
        command=published.training_run.command,
        name=Name(published.name, published.title),
    )
    print(describe_published(metadata, models))
    return 0
