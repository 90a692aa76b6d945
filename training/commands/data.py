"""The data set that a command's options name: CIFAR-10, or pictures in folders or a CSV file."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cifar10_serving.artifacts.metadata import CHANNELS, MAX_SIDE, MIN_SIDE, InputShape
from training.errors import DatasetError

if TYPE_CHECKING:
    from training.data import Dataset

DEFAULT_SIDE: Final = 32


def add_pictures(command: argparse.ArgumentParser, *, image_size: bool = True) -> None:
    """Add the options of pictures: --image-size, --test-fraction and --split-seed."""
    if image_size:
        command.add_argument(
            "--image-size",
            type=int,
            metavar="PIXELS",
            help=f"side to which pictures are cropped and resized, {MIN_SIDE} to {MAX_SIDE}; default: {DEFAULT_SIDE}",
        )
    command.add_argument(
        "--test-fraction",
        type=float,
        metavar="F",
        help="share of each class to test with, if the pictures have no test folder of their own; default: 0.2",
    )
    command.add_argument(
        "--split-seed", type=int, metavar="N", help="seed that draws the test and validation images; default: 83"
    )


def has_pictures(arguments: argparse.Namespace) -> bool:
    """Return whether --data names anything else than CIFAR-10; check the options that go with it.

    Raises:
        DatasetError: an option of pictures was given for CIFAR-10.
    """
    from training.data.cifar10 import is_cifar10

    if arguments.data is not None and not is_cifar10(arguments.data):
        return True
    for option in ("image_size", "test_fraction"):
        if getattr(arguments, option, None) is not None:
            raise DatasetError(
                f"--{option.replace('_', '-')} for CIFAR-10, whose images and splits are given",
                expected="pictures: --data with a folder of class folders, or a CSV file",
            )
    return False


def image_side(arguments: argparse.Namespace) -> int:
    """Return the side of the images in pixels.

    Raises:
        DatasetError: it is out of range.
    """
    side: int = DEFAULT_SIDE if arguments.image_size is None else arguments.image_size
    if not MIN_SIDE <= side <= MAX_SIDE:
        raise DatasetError(f"--image-size {side}", expected=f"{MIN_SIDE} to {MAX_SIDE} pixels")
    return side


def load_data(
    arguments: argparse.Namespace,
    *,
    input_shape: InputShape | None = None,
    limit: int | None = None,
    cache: Path | None = None,
) -> "Dataset":
    """Load the data set of --data.

    Args:
        arguments: with the options of `add_data` and `add_pictures`.
        input_shape: size of pictures instead of --image-size: that of a version.
        limit: approximate number of pictures, for a trial; None for all.
        cache: folder for decoded pictures; None for --checkpoints.

    Raises:
        DatasetError: there is no such data set.
        CheckpointError: decoded pictures can't be written.
    """
    from training import data

    if not has_pictures(arguments):
        return data.load_cifar10(arguments.data)
    if input_shape is None:
        side = image_side(arguments)
        input_shape = (side, side, CHANNELS)
    from training.data.pictures import SPLIT_SEED, load_pictures
    from training.progress import for_terminal

    with for_terminal() as progress:
        return load_pictures(
            arguments.data,
            input_shape=input_shape,
            cache=cache or arguments.checkpoints,
            test_fraction=arguments.test_fraction,
            split_seed=SPLIT_SEED if arguments.split_seed is None else arguments.split_seed,
            limit=limit,
            progress=progress,
        )
