"""`python -m training publish --to TARGET VERSION_FOLDER…`: copy published versions to a store or another folder."""

import argparse
from pathlib import Path

from cifar10_serving.stores.address import EXAMPLES


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    command.description = (
        "Verifies published versions and copies them, under their own names and numbers, to an object store or another "
        "models folder. Services that follow it see each version only when it is complete. A version that is there "
        "already stays as it is; if it is another one, the command fails."
    )
    command.add_argument(
        "--to", required=True, metavar="TARGET", help=f"the path of a models folder, or its address: {EXAMPLES}"
    )
    command.add_argument("folders", type=Path, nargs="+", metavar="VERSION_FOLDER", help="such as models/sequential/1")


def run(arguments: argparse.Namespace) -> int:
    """Print a line for each version."""
    from cifar10_serving.stores.publishing import publish_to

    for folder in arguments.folders:
        metadata, outcome = publish_to(arguments.to, folder)
        print(f"{metadata.name} version {metadata.version}: {outcome}", flush=True)
    return 0
