"""Lines for people and for programs on the standard streams, whatever has become of them."""

import contextlib
import logging
import os
import sys
from io import TextIOWrapper
from typing import Final

from catalog.errors import ProjectError
from catalog.printable import printable

SILENCE_S: Final = 10.0
"""Between two lines that say what is waited for."""


def prepare_streams() -> bool:
    """Make the standard streams take any text; tell whether somebody may read standard output.

    A stream that the caller has closed (`>&-`) leads nowhere from here on. Its number would else be given to the next
    file or connection, which would get what is printed.
    """
    is_open = sys.stdout is not None
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        with contextlib.suppress(OSError):
            while os.open(os.devnull, os.O_RDWR) < 2:  # noqa: PLR2004  # each takes the lowest number that is free
                pass
        nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  # as long as the process
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file's name may hold what the terminal can't show
            stream.reconfigure(errors="backslashreplace")
    return is_open


def say(text: str) -> None:
    """Print a line on standard error; nobody may be there to read it."""
    with contextlib.suppress(OSError, ValueError):
        print(printable(text), file=sys.stderr, flush=True)


def say_error(error: ProjectError) -> None:
    """Print an error, in one line of printable characters."""
    say(f"error: {error}")


class Waits(logging.Handler):
    """Says on standard error what the client waits for, now and then."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._next_s = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Print it, unless one was just printed: many requests wait for the same."""
        if record.created >= self._next_s:
            self._next_s = record.created + SILENCE_S
            say(f"waiting: {record.getMessage()}")


def say_waits() -> None:
    """Print from now on what the client waits for."""
    logger = logging.getLogger("client")
    logger.setLevel(logging.INFO)
    logger.handlers = [Waits()]


def drop_output() -> None:
    """Forget what is still in the buffer and can't be written either; Python would say so at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
