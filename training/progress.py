"""Show the progress of a run: a progress bar on a terminal, otherwise one line per epoch.

`training.fit` reports the events, these classes show them. `Progress` itself shows nothing.
"""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from cifar10_serving.artifacts.metadata import EpochResult


class Progress:
    """Receives the events of a run and shows nothing."""

    def start(self, what: str, images: int) -> None:
        """Begin a new stage over this many images; the previous stage is finished."""

    def advance(self, images: int) -> None:
        """Count this many more images as done."""

    def epoch(self, result: EpochResult, epochs: int) -> None:
        """Report a finished epoch; `epochs` is the total."""

    def tell(self, line: str) -> None:
        """Report a message."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Finish, whether the run succeeded or failed."""


class Lines(Progress):
    """One line per epoch on standard output, suitable for a log file."""

    def epoch(self, result: EpochResult, epochs: int) -> None:
        """Print the epoch's results."""
        print(describe(result, epochs), flush=True)

    def tell(self, line: str) -> None:
        """Print the message."""
        print(line, flush=True)


class Bar(Progress):
    """A progress bar with rate and remaining time, and one line per epoch above it."""

    def __init__(self, console: Console | None = None) -> None:
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _ImagesPerSecond(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console or Console(),
            transient=True,
        )

    def start(self, what: str, images: int) -> None:
        """Replace the current bar with a new one."""
        for task in self._bar.task_ids:
            self._bar.remove_task(task)
        self._task = self._bar.add_task(what, total=images)

    def advance(self, images: int) -> None:
        """Advance the bar."""
        self._bar.advance(self._task, images)

    def epoch(self, result: EpochResult, epochs: int) -> None:
        """Print the epoch's results above the bar."""
        self._bar.console.print(describe(result, epochs), highlight=False)

    def tell(self, line: str) -> None:
        """Print the message above the bar."""
        self._bar.console.print(line, highlight=False, markup=False)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()


def for_terminal() -> Progress:
    """Return a progress bar if standard output is a terminal, otherwise `Lines`."""
    return Bar() if sys.stdout.isatty() else Lines()


def describe(result: EpochResult, epochs: int) -> str:
    """Format an epoch's results as one line."""
    line = f"epoch {result.epoch}/{epochs}: loss {result.loss:.4f}, accuracy {result.accuracy:.4f}"
    if result.val_loss is not None and result.val_accuracy is not None:
        line += f", validation loss {result.val_loss:.4f}, accuracy {result.val_accuracy:.4f}"
    return f"{line}, {result.duration_s:.1f} s"


class _ImagesPerSecond(ProgressColumn):
    """Column with the rate in images per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} images/s")
