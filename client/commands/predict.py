"""`predict FILE…`: the classes of images, one row each as they come, and a folder's accuracy where it is a test set."""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import aclosing
from typing import Final

from catalog.metadata import Evaluation
from client._async_client import AsyncClient
from client._errors import (
    AddressError,
    AnswerTimeoutError,
    ClientError,
    ConnectionLostError,
    InvalidParameterError,
    UnauthorizedError,
    UnexpectedAnswerError,
    UnknownModelError,
    UnknownRouteError,
    UnreachableError,
)
from client._images import ImageSource
from client._many import ImageResult
from client.commands.arguments import add_model, add_service, add_top_k, client_options, positive_number
from client.commands.errors import CommandLineError
from client.commands.exit_codes import ExitCode, exit_code
from client.commands.files import NamedImage, named_images
from client.commands.folder_labels import Tally, check_labels, stored_line, true_label
from client.commands.progress import progress
from client.commands.rows import CsvRows, JsonRows, Row, Rows, TableRows
from client.commands.thumbnail import CHOICES, Thumbnails

DEFAULT_CONCURRENCY: Final = 8
FROM_FOLDER: Final = "from-folder"
OF_ALL_IMAGES: Final = (
    *(AddressError, UnreachableError, ConnectionLostError, UnexpectedAnswerError),
    *(InvalidParameterError, UnauthorizedError, UnknownModelError, UnknownRouteError),
)
"""What the next image would meet too: nothing more is sent, and it is said once."""
NOT_SENT: Final = CommandLineError("not sent: the run ended before", remedy="ask again")


def add(command: argparse.ArgumentParser) -> None:
    """The options."""
    command.description = "Images are sent as they are. Of a folder, every image below it is asked about."
    command.add_argument(
        "files", nargs="+", metavar="FILE", help="files, folders, patterns ('a/**/*.png'), - for stdin"
    )
    add_model(command)
    add_top_k(command)
    how = command.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print one JSON object a line")
    how.add_argument("--csv", action="store_true", help="print comma-separated values")
    command.add_argument(
        "--labels",
        choices=[FROM_FOLDER],
        help="the folders' names are the true classes: print the accuracy and the confusion matrix too",
    )
    command.add_argument(
        "--concurrency",
        type=positive_number,
        default=DEFAULT_CONCURRENCY,
        metavar="N",
        help=f"how many images are asked about at a time: {DEFAULT_CONCURRENCY}",
    )
    command.add_argument(
        "--thumbnail",
        choices=CHOICES,
        default="auto",
        help="shows what the model sees, in terminals that can (needs Pillow); auto: of up to 8 images",
    )
    add_service(command)


def run(arguments: argparse.Namespace) -> int:
    """Ask about every image."""
    images = named_images(arguments.files)
    if arguments.labels == FROM_FOLDER:
        if any(image.path is None for image in images):
            raise CommandLineError("standard input has no folder that could name its class")
        check_labels(image.path for image in images if image.path)
    work = _Work(arguments, images)
    try:
        asyncio.run(work.ask())
    except KeyboardInterrupt:
        print(f"stopped: {work.answered:,} of {len(images):,} images were answered", file=sys.stderr)
        return ExitCode.STOPPED
    return work.finish()


class _Work:
    """One run over the images: what was answered, what not and why."""

    def __init__(self, arguments: argparse.Namespace, images: list[NamedImage]) -> None:
        self._arguments = arguments
        self._images = images
        self._rows = _rows(arguments, images)
        self._thumbnails = Thumbnails(arguments.thumbnail, len(images), plain=arguments.json or arguments.csv)
        self._tally = Tally() if arguments.labels == FROM_FOLDER else None
        self._stored: list[tuple[str, int, Evaluation | None]] = []
        self._first_error: ClientError | None = None
        self._stopped_by: ClientError | None = None
        self._timeouts_in_a_row = 0
        self._seen = 0
        self.answered = 0

    async def ask(self) -> None:
        arguments = self._arguments
        async with AsyncClient(**client_options(arguments)) as client:
            many = client.predict_many(
                self._until_stopped(),
                model=arguments.model,
                version=arguments.version,
                top_k=arguments.top_k,
                concurrency=arguments.concurrency,
            )
            with progress(len(self._images)) as bar:
                async with aclosing(many) as results:
                    async for result in results:
                        self._take(self._images[result.index], result)
                        bar.advance()
            if self._tally is not None and self._stopped_by is None:
                self._stored = [(*version, await _stored(client, *version)) for version in self._tally.versions]

    def finish(self) -> int:
        """Say what remains to be said, and the exit code."""
        total, sent = len(self._images), self._seen
        if self._stopped_by is not None:
            print(f"error: {self._stopped_by}", file=sys.stderr)
        if self._rows.complete:
            for image in self._images[sent:]:
                self._write(image, Row(image.name, error=NOT_SENT))
        if self._tally is not None and self._tally.n:
            self._write_tally(self._tally)
        if self.answered == total:
            return ExitCode.DONE
        if total > 1:
            rest = f", {total - sent:,} not sent" if sent < total else ""
            print(
                f"{self.answered:,} of {total:,} images answered, {sent - self.answered:,} failed{rest}",
                file=sys.stderr,
            )
        return ExitCode.PARTLY if self.answered or self._first_error is None else exit_code(self._first_error)

    def _until_stopped(self) -> Iterator[ImageSource]:
        for image in self._images:
            if self._stopped_by is not None:
                return
            yield image.image

    def _take(self, image: NamedImage, result: ImageResult) -> None:
        self._seen += 1
        error, prediction = result.error, result.prediction
        self._first_error = self._first_error or error
        self._timeouts_in_a_row = self._timeouts_in_a_row + 1 if isinstance(error, AnswerTimeoutError) else 0
        hangs = self._timeouts_in_a_row >= self._arguments.concurrency
        if isinstance(error, OF_ALL_IMAGES) or hangs:
            self._stopped_by = self._stopped_by or error
        if prediction is not None:
            self.answered += 1
            self._thumbnails.show(image.image)
            if self._tally is not None and image.path is not None:
                self._tally.add(true_label(image.path) or "", prediction)
        if self._rows.complete or not isinstance(error, OF_ALL_IMAGES):
            self._write(image, Row(image.name, prediction, error))

    def _write(self, image: NamedImage, row: Row) -> None:
        if self._tally is not None and image.path is not None:
            row = Row(row.name, row.prediction, row.error, true_label(image.path))
        self._rows.write(row)

    def _write_tally(self, tally: Tally) -> None:
        if self._arguments.json:
            print(json.dumps({"evaluation": tally.record() | {"stored": self._stored_records()}}))
            return
        lines = ["", *tally.lines(), *(stored_line(*stored) for stored in self._stored)]
        print("\n".join(lines), file=sys.stderr if self._arguments.csv else sys.stdout)

    def _stored_records(self) -> list[dict[str, object]]:
        return [
            {"model": model, "version": version, "accuracy": stored.accuracy, "n": stored.n}
            for model, version, stored in self._stored
            if stored is not None
        ]


async def _stored(client: AsyncClient, model: str, version: int) -> Evaluation | None:
    try:
        listed = await client.models()
        metadata = await client.metadata(model, version)
    except ClientError:
        return None
    return metadata.evaluation("test", listed.precision, listed.runtime)


def _rows(arguments: argparse.Namespace, images: list[NamedImage]) -> Rows:
    if arguments.json:
        return JsonRows()
    if arguments.csv:
        return CsvRows()
    return TableRows([image.name for image in images])
