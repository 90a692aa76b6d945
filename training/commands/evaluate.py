"""`python -m training evaluate VERSION_FOLDER`: evaluate a published version again."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cifar10_serving.artifacts.layout import read_metadata
from cifar10_serving.artifacts.metadata import ModelMetadata
from training.commands.arguments import add_checkpoints, add_data
from training.commands.data import add_pictures, load_data
from training.commands.describe import describe_evaluation

if TYPE_CHECKING:
    from training.data import Dataset

MISMATCH: Final = 3


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    command.description = f"Exits with {MISMATCH} if a result doesn't match the metadata."
    command.add_argument("folder", type=Path, metavar="VERSION_FOLDER", help="such as models/sequential/1")
    add_checkpoints(command)
    add_data(command)
    add_pictures(command, image_size=False)
    command.add_argument(
        "--add",
        action="store_true",
        help="then evaluate it in the precisions that its metadata lacks, and add them, if this machine has them",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print each stored evaluation and its repetition."""
    from training.remeasure import remeasure

    metadata = read_metadata(arguments.folder)  # reports a wrong folder before 180 MB are read
    data = (
        _imported_data(arguments, metadata)
        if metadata.imported
        else load_data(arguments, input_shape=metadata.input_shape)
    )
    comparisons = remeasure(arguments.folder, data)
    for comparison in comparisons:
        print(f"stored {describe_evaluation(comparison.stored)}")
        if comparison.now is None:
            print(f"now    not measured: {comparison.reason}")
        else:
            outcome = "matches" if comparison.matches else "DOES NOT MATCH"
            print(f"now    {describe_evaluation(comparison.now)}: {outcome}")
    if not all(comparison.matches for comparison in comparisons):
        return MISMATCH
    if arguments.add:
        _add(arguments.folder, data)
    return 0


def _imported_data(arguments: argparse.Namespace, metadata: ModelMetadata) -> "Dataset":
    from training.errors import DatasetError
    from training.importing.measured_again import pictures_of
    from training.progress import for_terminal

    if arguments.data is None:
        raise DatasetError("no pictures", expected="--data with the test pictures of the import")
    with for_terminal() as progress:
        return pictures_of(metadata, arguments.data, arguments.checkpoints, progress)


def _add(folder: Path, data: "Dataset") -> None:
    from training.added_precision import add_precisions

    added = add_precisions(folder, data)
    for evaluation in added:
        print(f"added  {describe_evaluation(evaluation)}")
    if not added:
        print("added  nothing: it was already evaluated in every precision of this machine")
