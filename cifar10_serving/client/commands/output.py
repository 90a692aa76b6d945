"""Output of the commands: messages on stderr, progress of a run, aligned columns."""

import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from io import TextIOWrapper
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from cifar10_serving.errors import ProjectError
from cifar10_serving.text import printable

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


LONG: Final = 9
"""Fewer images are answered before a bar is read."""


class Progress(Protocol):
    """Hears of work that is done."""

    def advance(self) -> None:
        """One more image is done."""


class Silent:
    """Shows nothing."""

    def advance(self) -> None:
        """Show nothing."""


class Bar:
    """A bar with count and time left, gone when the work is done; lines on the same terminal go above it."""

    def __init__(self, console: Console, total: int, *, redirect_stdout: bool) -> None:
        self._bar = RichProgress(
            TextColumn("images"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            transient=True,
            redirect_stdout=redirect_stdout,
            redirect_stderr=redirect_stdout,
        )
        self._task = self._bar.add_task("images", total=total)

    def advance(self) -> None:
        """Move it."""
        self._bar.advance(self._task)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()


def progress(total: int) -> AbstractContextManager[Progress]:
    """What suits the terminal, if there is one, and the amount of work."""
    if total < LONG or not sys.stderr.isatty():
        return nullcontext(Silent())
    to_terminal = sys.stdout.isatty()
    return Bar(Console(stderr=not to_terminal), total, redirect_stdout=to_terminal)


SMALLEST: Final = 0.0005
"""The smallest share that is 0.1 % when it is rounded."""


def aligned(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """The rows as lines whose columns line up.

    Args:
        right: the columns whose text ends, rather than begins, in line.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["  ".join(_cell(text, widths[at], at in right) for at, text in enumerate(row)).rstrip() for row in rows]


def printable_lines(text: str) -> str:
    """The same of several lines, for what a server says of itself."""
    return "\n".join(map(printable, text.split("\n")))


def percent(share: float) -> str:
    """A share of 1, as a percentage; what rounds to nothing or to all of it is said to be less or more."""
    if 0 < share < SMALLEST:
        return "<0.1 %"
    return ">99.9 %" if 1 - SMALLEST < share < 1 else f"{100 * share:.1f} %"


def _cell(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)
