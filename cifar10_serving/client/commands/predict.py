"""`predict`: classify files, folders or standard input; rows are printed as answers arrive."""

import argparse
import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from pathlib import Path
from typing import Any, Final

from cifar10_serving.client._async_client import AsyncClient
from cifar10_serving.client._client import Client
from cifar10_serving.client._errors import (
    AddressError,
    AnswerTimeoutError,
    ClientError,
    ConnectionLostError,
    GatewayError,
    InvalidParameterError,
    UnauthorizedError,
    UnexpectedAnswerError,
    UnknownModelError,
    UnknownRouteError,
    UnreachableError,
)
from cifar10_serving.client._images import ImageSource
from cifar10_serving.client._many import ImageResult
from cifar10_serving.client.commands.arguments import add_model, add_service, add_top_k, client_options, concurrency
from cifar10_serving.client.commands.asked_version import asked_metadata
from cifar10_serving.client.commands.exit_codes import CommandLineError, ExitCode, exit_code
from cifar10_serving.client.commands.files import NamedImage, find_images
from cifar10_serving.client.commands.folder_labels import FolderLabels, StoredEvaluation, Tally
from cifar10_serving.client.commands.output import progress, say, say_error
from cifar10_serving.client.commands.resume import ResumeFile, wants_csv
from cifar10_serving.client.commands.rows import CsvRows, JsonRows, NoRows, Row, Rows, TableRows
from cifar10_serving.client.commands.thumbnail import CHOICES, Thumbnails
from cifar10_serving.errors import ProjectError
from cifar10_serving.schemas import Prediction

OF_ALL_IMAGES: Final = (
    *(AddressError, UnreachableError, ConnectionLostError, UnexpectedAnswerError),
    *(InvalidParameterError, UnauthorizedError, UnknownModelError, UnknownRouteError),
)
"""Errors that the next image would meet as well: nothing more is sent, and the error is reported once."""
NO_ANSWER: Final = (AnswerTimeoutError, GatewayError)
"""Errors that end a run only if repeated: a proxy returns them for a service that was stopped."""
NOT_SENT: Final = CommandLineError("not sent: the run ended before", remedy="run the command again")
DEFAULT_CONCURRENCY: Final = 8
FROM_FOLDER: Final = "from-folder"


class PredictionRun:
    """One run over the images: answers and failures.

    Args:
        rows: writes each image's row.
        thumbnails: draws each answered image.
        labels: the classes that folders may name; None without labels.
        saved: the file of `--resume`, or None.
    """

    def __init__(
        self,
        images: Sequence[NamedImage],
        rows: Rows,
        thumbnails: Thumbnails,
        *,
        labels: FolderLabels | None,
        saved: ResumeFile | None = None,
    ) -> None:
        self._saved = saved
        earlier = saved.earlier if saved else {}
        self._places = [place for place in range(len(images)) if place not in earlier]
        """Positions of the images to request, among all images."""
        self._images = [images[place] for place in self._places]
        self._earlier = [(images[place], prediction) for place, prediction in earlier.items()]
        self._rows = rows
        self._thumbnails = thumbnails
        self._labels = labels
        self._tally = Tally(labels) if labels is not None else None
        self._stored: list[StoredEvaluation] = []
        self._concurrency = 1
        self._first_error: ClientError | None = None
        self._stopped_by: ClientError | None = None
        self._unanswered_in_a_row = 0
        self._seen = 0
        self.total = len(images)
        self.answered = len(self._earlier)
        for image, answer in self._earlier:
            self._count(image, answer.model, answer.version, answer.label)

    async def ask(self, client_options: Mapping[str, Any], options: Mapping[str, Any], concurrency: int) -> None:
        """Request predictions for every image, until all are answered or the run has to end.

        Args:
            client_options: arguments of `AsyncClient`.
            options: arguments of each prediction: model, version, top_k.
        """
        self._concurrency = concurrency
        async with AsyncClient(**client_options) as client:
            many = client.predict_many(self._until_stopped(), concurrency=concurrency, **options)
            with progress(len(self._images)) as bar:
                async with aclosing(many) as results:
                    async for result in results:
                        self._take(result)
                        bar.advance()
                        if self._is_away:  # pending requests would take just as long
                            break
            if self._tally is not None and self._stopped_by is None:
                self._stored = [await _stored(client, *version) for version in self._tally.versions]

    def finish(self) -> int:
        """Print the summary and return the exit code."""
        total, sent = self.total, self._seen + len(self._earlier)
        if self._stopped_by is not None:
            say_error(self._stopped_by)
        if self._rows.complete:
            for image in self._images[self._seen :]:
                self._rows.write(self._row(image, error=NOT_SENT))
        if self._tally is not None and self._tally.n:
            self._rows.write_evaluation(self._tally, self._stored)
        if self.answered == total:
            return ExitCode.DONE
        if total > 1:
            rest = f", {total - sent:,} not sent" if sent < total else ""
            say(f"{self.answered:,} of {total:,} images answered, {sent - self.answered:,} failed{rest}")
        return ExitCode.PARTLY if self.answered or self._first_error is None else exit_code(self._first_error)

    @property
    def _is_away(self) -> bool:
        return self._unanswered_in_a_row >= self._concurrency

    def _until_stopped(self) -> Iterator[ImageSource]:
        for image in self._images:
            if self._stopped_by is not None:
                return
            yield image.image

    def _take(self, result: ImageResult) -> None:
        image, error, prediction = self._images[result.index], result.error, result.prediction
        if self._saved is not None and prediction is not None:
            self._saved.check_answer(prediction)
        self._seen += 1
        self._first_error = self._first_error or error
        self._unanswered_in_a_row = self._unanswered_in_a_row + 1 if isinstance(error, NO_ANSWER) else 0
        if isinstance(error, OF_ALL_IMAGES) or self._is_away:
            self._stopped_by = self._stopped_by or error
        row = self._row(image, prediction, error)
        of_all = isinstance(error, OF_ALL_IMAGES)
        if self._saved is not None and not of_all:
            self._saved.write(self._places[result.index], row)
        if prediction is not None:
            self.answered += 1
            self._thumbnails.show(image.image)
            self._count(image, prediction.model, prediction.version, prediction.label)
        if self._rows.complete or not of_all:
            self._rows.write(row)

    def _count(self, image: NamedImage, model: str, version: int, label: str) -> None:
        if self._tally is not None:
            self._tally.add(self._true_label(image) or "", model, version, label)

    def _true_label(self, image: NamedImage) -> str | None:
        return self._labels.of(image.path) if self._labels is not None and image.path is not None else None

    def _row(self, image: NamedImage, prediction: Prediction | None = None, error: ProjectError | None = None) -> Row:
        return Row(image.name, prediction, error, self._true_label(image))


async def _stored(client: AsyncClient, model: str, version: int) -> StoredEvaluation:
    try:
        listed = await client.models()
        metadata = await client.metadata(model, version)
    except ClientError:
        return StoredEvaluation(model, version, is_available=False)
    entries = (entry for listed_model in listed.models if listed_model.name == model for entry in listed_model.versions)
    precision = next((entry.precision for entry in entries if entry.version == version), None) or listed.precision
    evaluation = metadata.evaluation("test", precision, listed.runtime)
    dataset = metadata.dataset.name if metadata.dataset is not None else ""
    return StoredEvaluation(model, version, evaluation, dataset)


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    command.description = (
        "Classify images. Files are sent unchanged. A folder stands for every image in it and its subfolders."
    )
    command.add_argument(
        "files", nargs="+", metavar="FILE", help="files, folders, patterns ('a/**/*.png'), - for stdin"
    )
    add_model(command)
    add_top_k(command)
    how = command.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print one JSON object per line")
    how.add_argument("--csv", action="store_true", help="print comma-separated values")
    command.add_argument(
        "--labels",
        choices=[FROM_FOLDER],
        help="use the folders' names as true classes, and print the accuracy and the confusion matrix",
    )
    command.add_argument(
        "--resume",
        metavar="FILE",
        help="write the answers to FILE as JSON lines or CSV (--csv, or FILE.csv), and skip images that it already "
        "has: run the same command again to continue",
    )
    command.add_argument(
        "--concurrency",
        type=concurrency,
        default=DEFAULT_CONCURRENCY,
        metavar="N",
        help=f"number of concurrent requests; default: {DEFAULT_CONCURRENCY}",
    )
    command.add_argument(
        "--thumbnail",
        choices=CHOICES,
        default="auto",
        help="show the model's input, if the terminal can display images (needs Pillow); auto: for up to 8 images",
    )
    add_service(command)


def run(arguments: argparse.Namespace) -> int:
    """Classify every image."""
    found = find_images(arguments.files)
    images = found.images
    options = client_options(arguments)
    labels = _folder_labels(arguments, images, options) if arguments.labels == FROM_FOLDER else None
    with _saved(arguments, images) as saved:
        if found.left_out:
            say(str(found.left_out))
        return _ask(arguments, images, options, saved, labels)


def _folder_labels(arguments: argparse.Namespace, images: list[NamedImage], options: dict[str, Any]) -> FolderLabels:
    if any(image.path is None for image in images):
        raise CommandLineError("standard input has no folder that names its class")
    with Client(**options) as client:
        labels = FolderLabels(asked_metadata(client, arguments.model, arguments.version).labels)
    labels.check(image.path for image in images if image.path)
    return labels


def _saved(arguments: argparse.Namespace, images: list[NamedImage]) -> AbstractContextManager[ResumeFile | None]:
    if arguments.resume is None:
        return nullcontext()
    if any(not isinstance(image.image, Path) for image in images):
        raise CommandLineError("standard input and pipes can't be read again", remedy="leave out --resume")
    path = Path(arguments.resume)
    return ResumeFile(path, images, as_csv=wants_csv(path, as_json=arguments.json, as_csv=arguments.csv))


def _ask(
    arguments: argparse.Namespace,
    images: list[NamedImage],
    options: dict[str, Any],
    saved: ResumeFile | None,
    labels: FolderLabels | None,
) -> int:
    if saved is not None:
        saved.check(arguments.model, arguments.version)
        saved.begin()
        _say_what_is_saved(saved, arguments.resume, len(images))
    work = PredictionRun(
        images,
        NoRows() if saved is not None and saved.is_standard_output() else _rows(arguments, images),
        Thumbnails(arguments.thumbnail, len(images), plain=arguments.json or arguments.csv),
        labels=labels,
        saved=saved,
    )
    asked = {"model": arguments.model, "version": arguments.version, "top_k": arguments.top_k}
    try:
        asyncio.run(work.ask(options, asked, arguments.concurrency))
    except KeyboardInterrupt:
        go_on = "; run the same command to continue" if saved is not None else ""
        say(f"stopped: {work.answered:,} of {len(images):,} images were answered{go_on}")
        return ExitCode.STOPPED
    if saved is not None:
        saved.finish()
    return work.finish()


def _say_what_is_saved(saved: ResumeFile, name: str, total: int) -> None:
    if saved.earlier:
        say(f"{len(saved.earlier):,} of {total:,} images were already answered: {name}")
    if saved.strange:
        say(f"{saved.strange:,} rows of {name} are for files that are not in this run; they are kept")


def _rows(arguments: argparse.Namespace, images: list[NamedImage]) -> Rows:
    if arguments.json:
        return JsonRows()
    if arguments.csv:
        return CsvRows()
    return TableRows([image.name for image in images])
