"""Command line of the cluster: `python -m cluster COMMAND`, and `--help` after a command for its arguments.

Each command is a function `main(arguments) -> exit code` of its own module, which is imported only when it runs: some
need packages that others do without.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NamedTuple

from cifar10_serving.text import did_you_mean

USAGE_ERROR: Final = 2


class Command(NamedTuple):
    """The module with the command's `main`, and one line for `--help`."""

    module: str
    summary: str


COMMANDS: Final = {
    "start": Command("cluster.commands.start", "start a cluster on this machine and serve"),
    "join": Command("cluster.commands.join", "add this machine to a running cluster"),
    "stop": Command("cluster.commands.stop", "stop what start or join has started on this machine"),
    "score": Command("cluster.scoring.command", "classify a whole data set into Parquet files"),
}


def main(arguments: Sequence[str]) -> int:
    """Run a command; return its exit code, or 2 if there is no such command."""
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        print("usage: python -m cluster COMMAND [--help]\n")
        width = max(map(len, COMMANDS))
        print("\n".join(f"  {each:<{width}}  {command.summary}" for each, command in COMMANDS.items()))
        return 0
    if name not in COMMANDS:
        print(f"error: there is no command '{name[:100]}'{did_you_mean(name, COMMANDS)}; see --help", file=sys.stderr)
        return USAGE_ERROR
    code: int = import_module(COMMANDS[name].module).main(rest)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
