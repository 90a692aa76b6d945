"""`python -m training robustness VERSION_FOLDER`: evaluate a published version on corrupted images."""

import argparse
from pathlib import Path

from cifar10_serving.artifacts.layout import read_metadata
from training.commands.arguments import add_checkpoints, add_data
from training.commands.data import add_pictures, load_data


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    command.description = "Writes the table beside the version's folder; `report` shows it."
    command.add_argument("folder", type=Path, metavar="VERSION_FOLDER", help="such as models/sequential/1")
    add_checkpoints(command)
    add_data(command)
    add_pictures(command, image_size=False)


def run(arguments: argparse.Namespace) -> int:
    """Print and store the table."""
    from training.robustness import keep, measure_robustness

    metadata = read_metadata(arguments.folder)  # reports a wrong folder before 180 MB are read
    robustness = measure_robustness(arguments.folder, load_data(arguments, input_shape=metadata.input_shape))
    print(f"{robustness.name}/{robustness.version}, {robustness.n:,} test images: {robustness.clean_accuracy:.4f}")
    for result in robustness.results:
        print(
            f"  {result.corruption:<9} {result.strength}  "
            f"{result.accuracy:.4f}  ({result.parameter_name} {result.parameter:g})"
        )
    print(f"  mean         {robustness.mean_accuracy:.4f}")
    print(keep(robustness, arguments.folder.resolve().parent.parent))
    return 0
