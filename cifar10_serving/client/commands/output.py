"""Output of the commands: messages on stderr, the progress of a run, aligned columns."""

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
from cifar10_serving.schemas import VersionStatus
from cifar10_serving.text import printable

SILENCE_S: Final = 10.0
"""Interval between two lines about waits."""
LONG: Final = 9
"""Number of images above which a progress bar is useful."""
SMALLEST: Final = 0.0005
"""The smallest share that rounds to 0.1 %."""


def prepare_streams() -> bool:
    """Make the standard streams accept any text; return whether standard output is open.

    A stream that the caller has closed (`>&-`) is redirected to nowhere. Otherwise its number would be reused for the
    next file or connection, which would receive the output.
    """
    is_open = sys.stdout is not None
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        with contextlib.suppress(OSError):
            while os.open(os.devnull, os.O_RDWR) < 2:  # noqa: PLR2004  # each takes the lowest number that is free
                pass
        nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  # as long as the process
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file's name may contain characters that the terminal can't show
            stream.reconfigure(errors="backslashreplace")
    return is_open


def say(text: str) -> None:
    """Print a line on standard error, which may be closed."""
    with contextlib.suppress(OSError, ValueError):
        print(printable(text), file=sys.stderr, flush=True)


def say_error(error: ProjectError) -> None:
    """Print an error as one line of printable characters."""
    say(f"error: {error}")


class Waits(logging.Handler):
    """Log handler that prints from time to time what the client is waiting for."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._next_s = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message, unless one was printed recently: many requests wait for the same reason."""
        if record.created >= self._next_s:
            self._next_s = record.created + SILENCE_S
            say(f"waiting: {record.getMessage()}")


def say_waits() -> None:
    """Print from now on what the client is waiting for."""
    logger = logging.getLogger("cifar10_serving.client")
    logger.setLevel(logging.INFO)
    logger.handlers = [Waits()]


def drop_output() -> None:
    """Discard buffered output that can't be written; otherwise Python would report it at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Progress(Protocol):
    """Receives the progress of a run."""

    def advance(self) -> None:
        """Count one image."""


class Silent:
    """Progress that shows nothing."""

    def advance(self) -> None:
        """Show nothing."""


class Bar:
    """A progress bar with count and remaining time, removed at the end; other lines are printed above it."""

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
        """Advance the bar."""
        self._bar.advance(self._task)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()


def progress(total: int) -> AbstractContextManager[Progress]:
    """Return the progress display for this terminal and number of images."""
    if total < LONG or not sys.stderr.isatty():
        return nullcontext(Silent())
    to_terminal = sys.stdout.isatty()
    return Bar(Console(stderr=not to_terminal), total, redirect_stdout=to_terminal)


def aligned(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Return rows as lines with aligned columns.

    Args:
        right: right-aligned columns.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["  ".join(_cell(text, widths[at], at in right) for at, text in enumerate(row)).rstrip() for row in rows]


def printable_lines(text: str) -> str:
    """Return printable text with its line breaks, for texts from a server."""
    return "\n".join(map(printable, text.split("\n")))


def percent(share: float) -> str:
    """Format a share as a percentage; values that would round to 0 or 100 % become `<0.1 %` or `>99.9 %`."""
    if 0 < share < SMALLEST:
        return "<0.1 %"
    return ">99.9 %" if 1 - SMALLEST < share < 1 else f"{100 * share:.1f} %"


def stored_accuracy(version: VersionStatus | None) -> str:
    """Return a version's test accuracy, `not measured`, or `-` if its metadata can't be read."""
    if version is None or version.parameters is None:
        return "-"
    return "not measured" if version.test_accuracy is None else f"{version.test_accuracy:.4f}"


def _cell(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)
