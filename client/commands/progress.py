"""A bar for long work, where somebody looks: on the terminal, never in a file."""

import sys
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

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
