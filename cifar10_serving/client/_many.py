"""Many images, one result each, in order and with bounded memory; shared by the two clients' `predict_many`.

Images that wait when a request can be sent share it, up to `BATCH_IMAGES` and about `BATCH_BYTES`, because HTTP takes
most of the time for small images. A request never waits for more images. At most `concurrency` requests are running,
and at most `AHEAD` times as many images are taken ahead of the first missing result. Paths are read only when they are
sent, so `PATHS_AHEAD` times as many of them are taken, and every request can be full.
"""

import asyncio
import os
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Sequence,
)
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Generic, TypeAlias, TypeVar

from cifar10_serving.client._config import NO_RETRIES, Retries
from cifar10_serving.client._errors import (
    ClientError,
    GatewayError,
    ImageSourceError,
    InternalError,
    TooLargeError,
    UnavailableError,
    UnexpectedAnswerError,
    UnknownRouteError,
    UnreachableError,
    problem_error,
)
from cifar10_serving.client._images import EncodedImage, ImageSource, encode_image, is_quick, may_change, name_of
from cifar10_serving.schemas import BatchPrediction, Prediction

__all__ = ["ImageResult"]

AHEAD: Final = 4
BATCH_IMAGES: Final = 32
PATHS_AHEAD: Final = 2 * BATCH_IMAGES
BATCH_BYTES: Final = 2**19
"""Size at which a request gets no further image, so that a photo is sent alone."""
ALONE: Final = (TooLargeError, UnknownRouteError, InternalError)
"""Errors of a batch that its images may not have when sent alone."""

Answer: TypeAlias = Prediction | Exception
Held: TypeAlias = "ImageSource | EncodedImage | ImageSourceError"
"""An image that is read when it is sent; or, if it may change before, its encoded form or its error."""
AnyFuture = TypeVar("AnyFuture", "Future[Answer]", "asyncio.Future[Answer]")


@dataclass(frozen=True, slots=True)
class ImageResult:
    """One image's answer, or its error.

    Args:
        index: the image's position, from 0.
        name: its path or its file's name, or None.
        prediction: the answer, or None.
        error: the error, or None.
    """

    index: int
    name: str | None
    prediction: Prediction | None = None
    error: ClientError | None = None


@dataclass(frozen=True, slots=True)
class Job(Generic[AnyFuture]):
    """An image and its future answer."""

    index: int
    name: str | None
    image: Held
    answer: AnyFuture

    def end(self, answer: Answer) -> None:
        """Set the answer."""
        if not self.answer.cancelled():
            self.answer.set_result(answer)

    def result(self, answer: Answer) -> ImageResult:
        """Return the result; raise exceptions that are not errors of the client."""
        if isinstance(answer, Prediction):
            return ImageResult(self.index, self.name, prediction=answer)
        if isinstance(answer, ClientError):
            return ImageResult(self.index, self.name, error=answer)
        raise answer


class Window(Generic[AnyFuture]):
    """The jobs whose results are missing, in order.

    Args:
        concurrency: number of concurrent requests.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._jobs: deque[Job[AnyFuture]] = deque()
        self._held = 0
        """Number of jobs whose images are in memory."""

    def add(self, job: Job[AnyFuture]) -> None:
        """Add the next job."""
        self._jobs.append(job)
        self._held += not isinstance(job.image, str | os.PathLike)

    def pop(self) -> Job[AnyFuture]:
        """Remove the first job."""
        job = self._jobs.popleft()
        self._held -= not isinstance(job.image, str | os.PathLike)
        return job

    def has_ready(self) -> bool:
        """Return whether the first result is there, or has to be waited for before another image is taken."""
        is_full = self._held >= AHEAD * self._concurrency or len(self._jobs) >= PATHS_AHEAD * self._concurrency
        return bool(self._jobs) and (is_full or self._jobs[0].answer.done())

    def __bool__(self) -> bool:
        return bool(self._jobs)


class Patience:
    """State learned about the service: the number of attempts for the next request, and its maximum number of images.

    There are no retries while the service can't be reached, or after it was not ready for the duration of a call.
    Otherwise each image of a folder would wait through all retries for a service that is gone.
    """

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self.retries = retries
        self.batch_images = BATCH_IMAGES

    def note(self, answers: Sequence[Answer]) -> None:
        """Learn from these answers."""
        if answers:
            until_the_time_out = self._retries.attempts is None
            given_up = (UnreachableError, UnavailableError, GatewayError) if until_the_time_out else UnreachableError
            gone = any(isinstance(answer, given_up) for answer in answers)
            self.retries = NO_RETRIES if gone else self._retries

    def no_batch(self, error: ClientError) -> None:
        """Learn that the service rejected a batch; send no more batches if it would reject the next one as well."""
        if not isinstance(error, InternalError):
            self.batch_images = 1


@dataclass(frozen=True, slots=True)
class Asking:
    """The methods of `Client` that classify images."""

    predict: Callable[[EncodedImage, Retries], Prediction]
    predict_batch: Callable[[Sequence[EncodedImage], Retries], BatchPrediction]

    def answers(self, images: Sequence[EncodedImage], patience: Patience) -> list[Answer]:
        """Return one answer for each image."""
        if len(images) > 1:
            try:
                return answers_of(self.predict_batch(images, patience.retries), len(images))
            except ALONE as error:
                patience.no_batch(error)
            except Exception as error:  # noqa: BLE001  # raised where its image's result is asked for
                return [error] * len(images)
        return [self._answer(image, patience.retries) for image in images]

    def _answer(self, image: EncodedImage, retries: Retries) -> Answer:
        try:
            return self.predict(image, retries)
        except Exception as error:  # noqa: BLE001  # raised where its image's result is asked for
            return error


@dataclass(frozen=True, slots=True)
class AsyncAsking:
    """The methods of `AsyncClient` that classify images."""

    predict: Callable[[EncodedImage, Retries], Awaitable[Prediction]]
    predict_batch: Callable[[Sequence[EncodedImage], Retries], Awaitable[BatchPrediction]]

    async def answers(self, images: Sequence[EncodedImage], patience: Patience) -> list[Answer]:
        """Return one answer for each image."""
        if len(images) > 1:
            try:
                return answers_of(await self.predict_batch(images, patience.retries), len(images))
            except ALONE as error:
                patience.no_batch(error)
            except Exception as error:  # noqa: BLE001  # raised where its image's result is asked for
                return [error] * len(images)
        return [await self._answer(image, patience.retries) for image in images]

    async def _answer(self, image: EncodedImage, retries: Retries) -> Answer:
        try:
            return await self.predict(image, retries)
        except Exception as error:  # noqa: BLE001  # raised where its image's result is asked for
            return error


def predict_in_order(
    asking: Asking, images: Iterable[ImageSource], *, concurrency: int, retries: Retries
) -> Generator[ImageResult]:
    """Send requests in threads; if stopped early, drop requests that have not started and wait for the others."""
    patience = Patience(retries)
    waiting: deque[Job[Future[Answer]]] = deque()
    window: Window[Future[Answer]] = Window(concurrency)

    def ask() -> None:
        taken = take(waiting, patience.batch_images)
        answers = asking.answers([image for _, image in taken if isinstance(image, EncodedImage)], patience)
        patience.note(answers)
        hand_out(taken, answers)

    with ThreadPoolExecutor(concurrency, thread_name_prefix="cifar10-client") as threads:
        try:
            for index, image in enumerate(images):
                job: Job[Future[Answer]] = Job(index, name_of(image), hold(image), Future())
                window.add(job)
                waiting.append(job)
                threads.submit(ask)
                while window.has_ready():
                    first = window.pop()
                    yield first.result(first.answer.result())
            while window:
                first = window.pop()
                yield first.result(first.answer.result())
        finally:
            waiting.clear()
            threads.shutdown(wait=False, cancel_futures=True)


async def predict_in_order_async(
    asking: AsyncAsking,
    images: Iterable[ImageSource] | AsyncIterable[ImageSource],
    *,
    concurrency: int,
    retries: Retries,
) -> AsyncGenerator[ImageResult]:
    """Send requests in tasks; if stopped early, cancel all of them."""
    patience = Patience(retries)
    waiting: deque[Job[asyncio.Future[Answer]]] = deque()
    window: Window[asyncio.Future[Answer]] = Window(concurrency)
    tasks: set[asyncio.Task[None]] = set()
    asking_now = 0
    loop = asyncio.get_running_loop()

    async def ask() -> None:
        nonlocal asking_now
        try:
            while waiting:
                taken = await asyncio.to_thread(take, waiting, patience.batch_images)
                encoded = [image for _, image in taken if isinstance(image, EncodedImage)]
                answers = await asking.answers(encoded, patience)
                patience.note(answers)
                hand_out(taken, answers)
        finally:
            asking_now -= 1  # at once: the next image must not rely on this task

    try:
        index = 0
        async for image in _each(images):
            held = hold(image) if is_quick(image) or not may_change(image) else await asyncio.to_thread(hold, image)
            job = Job(index, name_of(image), held, loop.create_future())
            window.add(job)
            waiting.append(job)
            if asking_now < concurrency:
                asking_now += 1
                task = asyncio.create_task(ask())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            index += 1
            while window.has_ready():
                first = window.pop()
                yield first.result(await first.answer)
        while window:
            first = window.pop()
            yield first.result(await first.answer)
    finally:
        waiting.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def hold(image: ImageSource) -> Held:
    """Encode an image now if its owner may change or close it before it is sent, as generators do."""
    if not may_change(image):
        return image
    try:
        return encode_image(image)
    except ImageSourceError as error:
        return error


def take(waiting: deque[Job[AnyFuture]], most: int) -> list[tuple[Job[AnyFuture], EncodedImage | Exception]]:
    """Return the images for one request, read and encoded, or their errors; fewer if fewer are waiting."""
    taken: list[tuple[Job[AnyFuture], EncodedImage | Exception]] = []
    size_bytes = 0
    while len(taken) < most and size_bytes < BATCH_BYTES:
        try:
            job = waiting.popleft()
        except IndexError:
            break
        image = _encoded(job.image)
        taken.append((job, image))
        if isinstance(image, EncodedImage):
            size_bytes += len(image.content)
    return taken


def _encoded(image: Held) -> EncodedImage | Exception:
    if isinstance(image, ImageSourceError):
        return image
    try:
        return encode_image(image)
    except Exception as error:  # noqa: BLE001  # raised where its image's result is asked for
        return error


def hand_out(taken: Iterable[tuple[Job[AnyFuture], EncodedImage | Exception]], answers: Iterable[Answer]) -> None:
    """Give each image its answer; `answers` are those of the images that could be read."""
    left = iter(answers)
    for job, image in taken:
        job.end(image if isinstance(image, Exception) else next(left))


def answers_of(batch: BatchPrediction, images: int) -> list[Answer]:
    """Return the answers in a batch's answer.

    Raises:
        UnexpectedAnswerError: their number differs from the number of images.
    """
    answers = [result.prediction or (problem_error(result.error) if result.error else None) for result in batch.results]
    found = [answer for answer in answers if answer is not None]
    if len(found) != images:
        raise UnexpectedAnswerError(f"{images} images were answered with {len(found)} results")
    return list(found)


def check_concurrency(concurrency: int) -> None:
    """Check the number of concurrent requests.

    Raises:
        ValueError: it is less than one.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency = {concurrency}: expected 1 or more")


async def _each(images: Iterable[ImageSource] | AsyncIterable[ImageSource]) -> AsyncIterator[ImageSource]:
    if isinstance(images, AsyncIterable):
        async for image in images:
            yield image
    else:
        for image in images:
            yield image
