"""Command line of the cluster: `python -m cluster COMMAND`, and `--help` after a command for its arguments.

Each command is a function that takes the arguments after its name and returns the exit code. Its module is imported
only when it runs: some need packages that others do without.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NamedTuple

from cifar10_serving.text import did_you_mean

USAGE_ERROR: Final = 2


class Command(NamedTuple):
    """The module and function of a command, and one line for `--help`."""

    module: str
    summary: str
    function: str = "main"


COMMANDS: Final = {
    "status": Command("cluster.status", "show every instance's versions and rollouts, or wait until all have the same"),
    "start": Command("cluster.node", "start a cluster on this machine and serve, until SIGTERM or Ctrl-C", "start"),
    "join": Command("cluster.node", "add this machine to a cluster, until SIGTERM or Ctrl-C", "join"),
    "deploy": Command("cluster.deploy", "replace the replicas of a running cluster, one after the other"),
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
    command = COMMANDS[name]
    code: int = getattr(import_module(command.module), command.function)(rest)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
