"""`python -m training show-data`: draw the first images of the data set."""

import argparse
from pathlib import Path

from training.commands.arguments import add_checkpoints, add_data
from training.commands.data import add_pictures, load_data


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_checkpoints(command)
    add_data(command)
    add_pictures(command)
    command.add_argument(
        "--output",
        type=Path,
        default=Path("sample_images.svg"),
        metavar="FILE",
        help="an .svg or .png file; default: sample_images.svg",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the image."""
    from training.sample_images import write_sample_images

    data = load_data(arguments)
    write_sample_images(data.train, data.labels, arguments.output)
    print(arguments.output)
    return 0
