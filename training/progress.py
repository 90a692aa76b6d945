"""Tells the one who waits how far a run is: a bar where there is a terminal, a line an epoch where there is none.

`training.fit` says what happened, the classes here what is shown of it. `Progress` itself shows nothing.
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
    """Hears of a run and shows nothing of it."""

    def start(self, what: str, images: int) -> None:
        """Something begins that takes so many images; what was shown before is over."""

    def advance(self, images: int) -> None:
        """So many more of them are done."""

    def epoch(self, result: EpochResult, epochs: int) -> None:
        """An epoch of so many is over."""

    def tell(self, line: str) -> None:
        """Something worth a line."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """The run is over, one way or the other."""


class Lines(Progress):
    """A line an epoch on standard output, nothing that a log file could not hold."""

    def epoch(self, result: EpochResult, epochs: int) -> None:
        """Print it."""
        print(describe(result, epochs), flush=True)

    def tell(self, line: str) -> None:
        """Print it."""
        print(line, flush=True)


class Bar(Progress):
    """A bar with rate and time left, and a line an epoch above it."""

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
        """A bar of its own, in the place of the one before."""
        for task in self._bar.task_ids:
            self._bar.remove_task(task)
        self._task = self._bar.add_task(what, total=images)

    def advance(self, images: int) -> None:
        """Move it."""
        self._bar.advance(self._task, images)

    def epoch(self, result: EpochResult, epochs: int) -> None:
        """Print it above the bar."""
        self._bar.console.print(describe(result, epochs), highlight=False)

    def tell(self, line: str) -> None:
        """Print it above the bar."""
        self._bar.console.print(line, highlight=False, markup=False)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()


def for_terminal() -> Progress:
    """What suits standard output."""
    return Bar() if sys.stdout.isatty() else Lines()


def describe(result: EpochResult, epochs: int) -> str:
    """An epoch in one line."""
    line = f"epoch {result.epoch}/{epochs}: loss {result.loss:.4f}, accuracy {result.accuracy:.4f}"
    if result.val_loss is not None and result.val_accuracy is not None:
        line += f", validation loss {result.val_loss:.4f}, accuracy {result.val_accuracy:.4f}"
    return f"{line}, {result.duration_s:.1f} s"


class _ImagesPerSecond(ProgressColumn):
    """The rate, as images a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} images/s")
