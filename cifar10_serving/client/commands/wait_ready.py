"""`wait-ready`: wait until the service answers requests, for scripts that have just started one."""

import argparse
from typing import Final

from cifar10_serving.client._client import Client
from cifar10_serving.client.commands.arguments import add_service, client_options, seconds
from cifar10_serving.text import printable

DEFAULT_WAIT_S: Final = 60.0


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    command.add_argument(
        "--for",
        dest="wait_s",
        type=seconds,
        default=DEFAULT_WAIT_S,
        metavar="SECONDS",
        help=f"maximum time to wait; default: {DEFAULT_WAIT_S:g}",
    )
    add_service(command)


def run(arguments: argparse.Namespace) -> int:
    """Wait, and print the models that are ready."""
    with Client(**client_options(arguments)) as client:
        readiness = client.wait_until_ready(arguments.wait_s)
    ready = ", ".join(name for name, state in readiness.models.items() if state == "ready")
    print(printable(f"ready: {ready}"))
    return 0
