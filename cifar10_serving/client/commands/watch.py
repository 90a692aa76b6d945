"""`watch`: show the service's statistics periodically: as a screen on a terminal, otherwise as lines."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from cifar10_serving.client._client import Client
from cifar10_serving.client._config import NO_RETRIES
from cifar10_serving.client._connection import without_password
from cifar10_serving.client._errors import ClientError
from cifar10_serving.client.commands.arguments import add_service, client_options, positive_number, seconds
from cifar10_serving.client.commands.exit_codes import ExitCode, exit_code
from cifar10_serving.client.commands.output import aligned, stored_accuracy
from cifar10_serving.schemas import ModelList, Readiness, ServiceStatistics
from cifar10_serving.text import printable

DEFAULT_INTERVAL_S: Final = 2.0


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    command.description = "Continues while the service can't be reached. Stop it with Ctrl-C, or set --count."
    command.add_argument(
        "--interval",
        type=seconds,
        default=DEFAULT_INTERVAL_S,
        metavar="SECONDS",
        help=f"time between updates; default: {DEFAULT_INTERVAL_S:g}",
    )
    command.add_argument("--count", type=positive_number, metavar="N", help="stop after so many updates")
    add_service(command)


def run(arguments: argparse.Namespace) -> int:
    """Show updates; return the exit code of the last one."""
    options = client_options(arguments) | {"retries": NO_RETRIES}
    code, looks = ExitCode.DONE, 0
    with Client(**options) as client, _display(without_password(client.base_url)) as display:
        while True:
            try:
                display.show(Look(client.ready(), client.models(), client.stats()))
                code = ExitCode.DONE
            except ClientError as error:
                display.fail(error)
                code = exit_code(error)
            looks += 1
            if arguments.count is not None and looks >= arguments.count:
                return code
            time.sleep(arguments.interval)


@dataclass(frozen=True, slots=True)
class Look:
    """The state of the service at one time."""

    readiness: Readiness
    models: ModelList
    statistics: ServiceStatistics

    def summary(self) -> str:
        """Return the service's state in one line."""
        seen = self.statistics
        state = "ready" if self.readiness.ready else f"not ready: {self.readiness.reason}"
        return (
            f"{state}; {seen.requests_per_s:.1f} requests/s, {seen.requests_total:,} in all, "
            f"{seen.rejected_total:,} rejected; {seen.queue_rows} images in the queue, "
            f"{seen.pending_requests} requests pending; p50 {_ms(seen.p50_ms)}, p99 {_ms(seen.p99_ms)}"
        )

    def table(self) -> list[str]:
        """Return one line for each version that is not merely published."""
        rows = [
            (
                f"{model.name}{' *' if model.default else ''}",
                str(entry.version),
                entry.state,
                stored_accuracy(entry),
                entry.reason or "",
            )
            for model in self.models.models
            for entry in model.versions
            if entry.state != "published"
        ]
        return aligned([("model", "version", "state", "accuracy", ""), *rows], right=frozenset({1, 3}))


class Display(Protocol):
    """Shows updates and errors."""

    def show(self, look: Look) -> None:
        """Show an update."""

    def fail(self, error: ClientError) -> None:
        """Show an error."""


class Lines:
    """One line with the time for each update."""

    def show(self, look: Look) -> None:
        """Print it."""
        states = ", ".join(f"{model.name} {model.state}" for model in look.models.models)
        print(printable(f"{_now()} {look.summary()}; {states}"), flush=True)

    def fail(self, error: ClientError) -> None:
        """Print it."""
        print(printable(f"{_now()} error: {error}"), flush=True)


class Screen:
    """The last update, in place of the one before."""

    def __init__(self, live: Live, url: str) -> None:
        self._live = live
        self._url = url

    def show(self, look: Look) -> None:
        """Draw it."""
        self._draw(look.summary(), "", *look.table())

    def fail(self, error: ClientError) -> None:
        """Draw it."""
        self._draw(f"error: {error}")

    def _draw(self, *lines: str) -> None:
        shown = "\n".join(map(printable, [f"{self._url} at {_now()}, Ctrl-C to stop", "", *lines]))
        self._live.update(Text(shown), refresh=True)


@contextmanager
def _display(url: str) -> Iterator[Display]:
    if not sys.stdout.isatty():
        yield Lines()
        return
    with Live(console=Console(), auto_refresh=False) as live:
        yield Screen(live, url)


def _now() -> str:
    return time.strftime("%H:%M:%S")


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"
