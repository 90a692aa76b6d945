"""`python -m training verify VERSION_FOLDER`: verify a published version as the service would."""

import argparse
from pathlib import Path
from typing import Final

FAILED: Final = 1


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    command.description = (
        "Verifies the metadata and every file's hash, loads the version with the runtime that the service would use, "
        f"and compares its golden answers. Exits with {FAILED} if one is not as published."
    )
    command.add_argument("folder", type=Path, metavar="VERSION_FOLDER", help="such as models/sequential/1")
    command.add_argument(
        "--runtime", choices=["auto", "openvino", "tensorflow"], default="auto", help="default: the service's choice"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the table, and the reason of a failure."""
    from cifar10_serving.runtimes.selection import open_runtime
    from cifar10_serving.runtimes.verification import check_version, report_lines

    result = check_version(arguments.folder, open_runtime(arguments.runtime, precision="auto"))
    print("\n".join(report_lines([result])))
    return FAILED if result.problem is not None else 0
