"""Command line: `python -m cifar10_serving COMMAND`, or `cifar10 COMMAND` if the project is installed.

The commands are in `cifar10_serving.client.commands`; this module reports missing packages.
"""

import sys
from collections.abc import Sequence
from typing import Final

NOT_INSTALLED: Final = 1
STOPPED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return a `cifar10_serving.client.commands.exit_codes.ExitCode`."""
    try:
        from cifar10_serving.client.commands.main import main as run_command
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in {"", "cifar10_serving"}:
            raise
        print(
            f"error: the package {package} is not installed for {sys.executable}. "
            "What to do: run make client, or pip install '.[client]', in the project's folder.",
            file=sys.stderr,
        )
        return NOT_INSTALLED
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return STOPPED
    return run_command(arguments)


if __name__ == "__main__":
    sys.exit(main())
