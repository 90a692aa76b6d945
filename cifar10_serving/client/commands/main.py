"""Parses the command line, runs the command, and turns errors into one line and an exit code.

Each command is in the module of its name.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final

from cifar10_serving import __version__
from cifar10_serving.client.commands import bench, compare, explain, model, models, predict, wait_ready, watch
from cifar10_serving.client.commands.arguments import Parser
from cifar10_serving.client.commands.exit_codes import CommandLineError, ExitCode, exit_code
from cifar10_serving.client.commands.output import drop_output, prepare_streams, say, say_error, say_waits
from cifar10_serving.errors import ProjectError

OPTIONS_OF_COMMANDS: Final = ("--url", "--timeout", "--retries", "--token", "--model", "--top-k", "--json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return an `ExitCode`."""
    has_output = prepare_streams()
    say_waits()
    try:
        parsed = _parser().parse_args(arguments)
        if not has_output:
            raise CommandLineError("standard output is closed", remedy="send it to a file, or to /dev/null")
        code: int = parsed.run(parsed)
        sys.stdout.flush()
    except SystemExit:  # raised by argparse after usage or help
        _flush()
        raise
    except ProjectError as error:
        _flush()
        say_error(error)
        return exit_code(error)
    except KeyboardInterrupt:
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # a second Ctrl-C ends the process silently, even if it waits for a thread
        say("stopped")
        return ExitCode.STOPPED
    except BrokenPipeError:
        drop_output()
        return ExitCode.NO_READER
    except OSError as error:
        drop_output()
        say(f"error: reading or writing failed: {error.strerror or error}")
        return ExitCode.FAILED
    except MemoryError:
        say("error: there is not enough memory")
        return ExitCode.FAILED
    return code


class _AfterCommand(argparse.Action):
    """Reports a command's option that stands before the command, which would be read as the command's name."""

    def __call__(self, parser: argparse.ArgumentParser, _: Any, __: Any, option_string: str | None = None) -> None:
        """Report it.

        Raises:
            SystemExit: always.
        """
        parser.error(f"{option_string} belongs after the command: COMMAND {option_string} …")


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        drop_output()


def _parser() -> Parser:
    parser = Parser(
        prog=None if sys.argv and sys.argv[0].endswith("cifar10") else "python -m cifar10_serving",
        description="Classify images with a cifar10-serving service.",
        epilog="docs/client.md has examples and the exit codes.",
    )
    parser.add_argument("--version", action="version", version=f"cifar10-serving {__version__}")
    parser.add_argument(*OPTIONS_OF_COMMANDS, nargs="?", action=_AfterCommand, help=argparse.SUPPRESS)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module, purpose in (
        ("predict", predict, "classify images: files, folders, patterns, standard input"),
        ("compare", compare, "classify one image with several models"),
        ("explain", explain, "explain which parts of an image mattered"),
        ("models", models, "list the models"),
        ("model", model, "show one model and its versions"),
        ("watch", watch, "show the service's statistics periodically"),
        ("wait-ready", wait_ready, "wait until the service is ready"),
        ("bench", bench, "measure how fast the service answers"),
    ):
        command = commands.add_parser(name, help=purpose)
        module.add(command)
        command.set_defaults(run=module.run)
    return parser
