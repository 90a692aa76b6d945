"""`python -m training report`: write the results page."""

import argparse
from pathlib import Path

from training.commands.arguments import add_models


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_models(command)
    command.add_argument(
        "--output",
        type=Path,
        default=Path("docs/results"),
        metavar="FOLDER",
        help="folder for results.md, results.html and plots/; default: docs/results",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the page, and print the paths of the written files."""
    from training.report import write_report

    for file in write_report(arguments.models, arguments.output):
        print(file)
    return 0
