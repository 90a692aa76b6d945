"""Reads the command line, runs the command that it names, and turns what it raises into a line and an exit code.

What each command does is in the module of its name.
"""

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from catalog import PROJECT_VERSION
from catalog.errors import ProjectError
from client.commands import bench, compare, explain, model, models, predict, wait_ready, watch
from client.commands.arguments import Parser
from client.commands.exit_codes import ExitCode, exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; an `ExitCode`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file's name may hold what the terminal can't show
            stream.reconfigure(errors="backslashreplace")
    parsed = _parser().parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
        sys.stdout.flush()
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return ExitCode.STOPPED
    except BrokenPipeError:
        _drop_output()
        return ExitCode.NO_READER
    except OSError as error:
        _drop_output()
        print(f"error: reading or writing failed: {error.strerror or error}", file=sys.stderr)
        return ExitCode.FAILED
    return code


def _drop_output() -> None:
    """What is still in the buffer can't be written either; Python would say so at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> Parser:
    parser = Parser(
        prog=None if sys.argv[0].endswith("cifar10") else "python -m client",
        description="Ask a service for the CIFAR-10 classes of images.",
        epilog="docs/client.md has examples and the exit codes.",
    )
    parser.add_argument("--version", action="version", version=f"cifar10-serving {PROJECT_VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module, purpose in (
        ("predict", predict, "the classes of images: files, folders, patterns, standard input"),
        ("compare", compare, "what several models say of one image"),
        ("explain", explain, "what mattered to a model in one image"),
        ("models", models, "the models that the service has"),
        ("model", model, "one model and its versions"),
        ("watch", watch, "how the service is doing, again and again"),
        ("wait-ready", wait_ready, "wait until the service answers"),
        ("bench", bench, "how fast the service answers"),
    ):
        command = commands.add_parser(name, help=purpose)
        module.add(command)
        command.set_defaults(run=module.run)
    return parser
