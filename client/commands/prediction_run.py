"""A run of `predict` over its images: asks, hands each answer on, and knows when to stop and how it ended."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

from catalog.errors import ProjectError
from catalog.metadata import Evaluation
from catalog.responses import Prediction
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
from client.commands.output import say, say_error
from client.commands.progress import progress
from client.commands.resume import ResumeFile
from client.commands.rows import Row, Rows
from client.commands.thumbnail import Thumbnails

OF_ALL_IMAGES: Final = (
    *(AddressError, UnreachableError, ConnectionLostError, UnexpectedAnswerError),
    *(InvalidParameterError, UnauthorizedError, UnknownModelError, UnknownRouteError),
)
"""What the next image would meet too: nothing more is sent, and it is said once."""
NO_ANSWER: Final = (AnswerTimeoutError, GatewayError)
"""What the next image may not meet, unless it comes again and again: a proxy says so of a service that was stopped."""
NOT_SENT: Final = CommandLineError("not sent: the run ended before", remedy="run the command again")


class PredictionRun:
    """One run over the images: what was answered, what not and why.

    Args:
        rows: writes each image's answer.
        thumbnails: draws each image that was answered.
        labelled: the images' folders name their true classes.
        saved: has answers of an earlier run, and gets those of this one.
    """

    def __init__(
        self,
        images: Sequence[NamedImage],
        rows: Rows,
        thumbnails: Thumbnails,
        *,
        labelled: bool,
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
        self._tally = Tally() if labelled else None
        self._stored: list[StoredEvaluation] = []
        self._concurrency = 1
        self._first_error: ClientError | None = None
        self._stopped_by: ClientError | None = None
        self._unanswered_in_a_row = 0
        self._seen = 0
        self.total = len(images)
        self.answered = len(self._earlier)
        for image, prediction in self._earlier:
            self._count(image, prediction)

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
                        self._take(result)
                        bar.advance()
                        if self._is_away:  # those that are being asked about would take as long
                            break
            if self._tally is not None and self._stopped_by is None:
                self._stored = [(*version, await _stored(client, *version)) for version in self._tally.versions]

    def finish(self) -> int:
        """Say what remains to be said, and the exit code."""
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
            self._count(image, prediction)
        if self._rows.complete or not of_all:
            self._rows.write(row)

    def _count(self, image: NamedImage, prediction: Prediction) -> None:
        if self._tally is not None and image.path is not None:
            self._tally.add(true_label(image.path) or "", prediction)

    def _row(self, image: NamedImage, prediction: Prediction | None = None, error: ProjectError | None = None) -> Row:
        labelled = self._tally is not None and image.path is not None
        return Row(image.name, prediction, error, true_label(image.path) if labelled and image.path else None)


async def _stored(client: AsyncClient, model: str, version: int) -> Evaluation | None:
    try:
        listed = await client.models()
        metadata = await client.metadata(model, version)
    except ClientError:
        return None
    return metadata.evaluation("test", listed.precision, listed.runtime)
