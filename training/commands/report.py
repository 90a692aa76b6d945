"""`python -m training report`: writes the page of results."""

import argparse
from pathlib import Path

from training.commands.arguments import add_models


def add(command: argparse.ArgumentParser) -> None:
    """The options."""
    add_models(command)
    command.add_argument(
        "--output",
        type=Path,
        default=Path("docs/results"),
        metavar="FOLDER",
        help="where results.md, results.html and plots/ go: docs/results",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write it, and name what was written."""
    from training.report import write_report

    for file in write_report(arguments.models, arguments.output):
        print(file)
    return 0
