"""`python -m training evaluate VERSION_FOLDER`: measures a published version again."""

import argparse
from pathlib import Path
from typing import Final

from catalog.artifact import read_metadata
from training.commands.arguments import add_data
from training.commands.describe import describe_evaluation

MISMATCH: Final = 3


def add(command: argparse.ArgumentParser) -> None:
    """The options."""
    command.description = f"Ends with {MISMATCH} where a figure is not what the metadata says."
    command.add_argument("folder", type=Path, metavar="VERSION_FOLDER", help="such as models/sequential/1")
    add_data(command)


def run(arguments: argparse.Namespace) -> int:
    """Print each stored evaluation and the same one measured now."""
    from training.data import load_cifar10
    from training.remeasure import remeasure

    read_metadata(arguments.folder)  # a wrong folder is told before 180 MB are read
    comparisons = remeasure(arguments.folder, load_cifar10(arguments.data))
    for comparison in comparisons:
        print(f"stored {describe_evaluation(comparison.stored)}")
        if comparison.now is None:
            print(f"now    not measured: {comparison.reason}")
        else:
            outcome = "matches" if comparison.matches else "DOES NOT MATCH"
            print(f"now    {describe_evaluation(comparison.now)}: {outcome}")
    return 0 if all(comparison.matches for comparison in comparisons) else MISMATCH
