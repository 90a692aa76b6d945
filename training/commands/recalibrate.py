"""`python -m training recalibrate VERSION_FOLDER`: publish a version again at its recipe's current temperature."""

import argparse
from pathlib import Path

from cifar10_serving.artifacts.layout import read_metadata
from training.commands.arguments import add_data
from training.commands.describe import describe_published


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    command.description = (
        "Publishes the same weights as the next version, whose graph divides the logits by the recipe's current "
        "temperature; `temperature` finds one. Nothing is trained."
    )
    command.add_argument("folder", type=Path, metavar="VERSION_FOLDER", help="such as models/sequential/2")
    add_data(command)


def run(arguments: argparse.Namespace) -> int:
    """Publish the new version beside the old one."""
    command = read_metadata(arguments.folder).training_run.command  # reports a wrong folder before 180 MB are read
    from training.backend import require_tensorflow
    from training.data import load_cifar10
    from training.recalibrate import at_todays_temperature

    require_tensorflow("exporting")
    from training.export import export

    data = load_cifar10(arguments.data)
    models = arguments.folder.resolve().parent.parent
    metadata = export(at_todays_temperature(arguments.folder, data), data, models, command=command)
    print(describe_published(metadata, models))
    return 0
