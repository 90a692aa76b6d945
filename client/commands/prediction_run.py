"""A run of `predict` over its images: asks, hands each answer on, and knows when to stop and how it ended."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from catalog.metadata import Evaluation
from client._async_client import AsyncClient
from client._errors import (
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
from client._images import ImageSource
from client._many import ImageResult
from client.commands.errors import CommandLineError
from client.commands.exit_codes import ExitCode, exit_code
from client.commands.files import NamedImage
from client.commands.folder_labels import StoredEvaluation, Tally, true_label
from client.commands.progress import progress
from client.commands.rows import Row, Rows
from client.commands.thumbnail import Thumbnails

OF_ALL_IMAGES: Final = (
    *(AddressError, UnreachableError, ConnectionLostError, UnexpectedAnswerError),
    *(InvalidParameterError, UnauthorizedError, UnknownModelError, UnknownRouteError),
)
"""What the next image would meet too: nothing more is sent, and it is said once."""
NO_ANSWER: Final = (AnswerTimeoutError, GatewayError)
"""What the next image may not meet, unless it comes again and again: a proxy says so of a service that was stopped."""
NOT_SENT: Final = CommandLineError("not asked about: the run ended before", remedy="ask again")


class PredictionRun:
    """One run over the images: what was answered, what not and why.

    Args:
        rows: writes each image's answer.
        thumbnails: draws each image that was answered.
        labelled: the images' folders name their true classes.
    """

    def __init__(self, images: Sequence[NamedImage], rows: Rows, thumbnails: Thumbnails, *, labelled: bool) -> None:
        self._images = images
        self._rows = rows
        self._thumbnails = thumbnails
        self._tally = Tally() if labelled else None
        self._stored: list[StoredEvaluation] = []
        self._concurrency = 1
        self._first_error: ClientError | None = None
        self._stopped_by: ClientError | None = None
        self._unanswered_in_a_row = 0
        self._seen = 0
        self.answered = 0

    async def ask(self, client_options: Mapping[str, Any], options: Mapping[str, Any], concurrency: int) -> None:
        """Ask about every image, until all are answered or nothing more can be.

        Args:
            client_options: of `AsyncClient`.
            options: of each prediction: model, version, top_k.
        """
        self._concurrency = concurrency
        async with AsyncClient(**client_options) as client:
            many = client.predict_many(self._until_stopped(), concurrency=concurrency, **options)
            with progress(len(self._images)) as bar:
                async with aclosing(many) as results:
                    async for result in results:
                        self._take(self._images[result.index], result)
                        bar.advance()
                        if self._is_away:  # those that are being asked about would take as long
                            break
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
            self._rows.write_evaluation(self._tally, self._stored)
        if self.answered == total:
            return ExitCode.DONE
        if total > 1:
            rest = f", {total - sent:,} not asked about" if sent < total else ""
            print(
                f"{self.answered:,} of {total:,} images answered, {sent - self.answered:,} failed{rest}",
                file=sys.stderr,
            )
        return ExitCode.PARTLY if self.answered or self._first_error is None else exit_code(self._first_error)

    @property
    def _is_away(self) -> bool:
        return self._unanswered_in_a_row >= self._concurrency

    def _until_stopped(self) -> Iterator[ImageSource]:
        for image in self._images:
            if self._stopped_by is not None:
                return
            yield image.image

    def _take(self, image: NamedImage, result: ImageResult) -> None:
        self._seen += 1
        error, prediction = result.error, result.prediction
        self._first_error = self._first_error or error
        self._unanswered_in_a_row = self._unanswered_in_a_row + 1 if isinstance(error, NO_ANSWER) else 0
        if isinstance(error, OF_ALL_IMAGES) or self._is_away:
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


async def _stored(client: AsyncClient, model: str, version: int) -> Evaluation | None:
    try:
        listed = await client.models()
        metadata = await client.metadata(model, version)
    except ClientError:
        return None
    return metadata.evaluation("test", listed.precision, listed.runtime)
