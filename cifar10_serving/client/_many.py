"""Many images, one result each, in order, with bounded memory; what the two clients' `predict_many` share.

What waits when a request can be sent goes together in it, up to `BATCH_IMAGES` and about `BATCH_BYTES`: of small images
most of the time is HTTP's. Nothing waits for a batch to be filled. At most `concurrency` requests are under way, and at
most `AHEAD` times as many images are taken before the first of them has its result.
"""

import asyncio
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
BATCH_IMAGES: Final = 16
BATCH_BYTES: Final = 2**19
"""A request that has as much gets no further image, so that a photo goes alone."""
ALONE: Final = (TooLargeError, UnknownRouteError, InternalError)
"""What a batch may meet where its images, each alone, do not."""

Answer: TypeAlias = Prediction | Exception
Held: TypeAlias = "ImageSource | EncodedImage | ImageSourceError"
"""An image that is read when it is sent; or, of one that may change until then, its file or why there is none."""
AnyFuture = TypeVar("AnyFuture", "Future[Answer]", "asyncio.Future[Answer]")


@dataclass(frozen=True, slots=True)
class ImageResult:
    """One image's answer, or why there is none.

    Args:
        index: the image's place among those that were given, from 0.
        name: its path or its file's name; None where it has none.
        prediction: the answer.
        error: why there is none.
    """

    index: int
    name: str | None
    prediction: Prediction | None = None
    error: ClientError | None = None


@dataclass(frozen=True, slots=True)
class Job(Generic[AnyFuture]):
    """An image, and the answer that it will have."""

    index: int
    name: str | None
    image: Held
    answer: AnyFuture

    def end(self, answer: Answer) -> None:
        """It has its answer."""
        if not self.answer.cancelled():
            self.answer.set_result(answer)

    def result(self, answer: Answer) -> ImageResult:
        """Its result; whatever is no error of the client is raised."""
        if isinstance(answer, Prediction):
            return ImageResult(self.index, self.name, prediction=answer)
        if isinstance(answer, ClientError):
            return ImageResult(self.index, self.name, error=answer)
        raise answer


class Patience:
    """What was learnt of the service: how often the next request is tried, and how many images it may have.

    While the service can't be reached at all there are no retries, nor where it was not ready for as long as a call may
    take: else each image of a folder would wait through all of them for a service that is gone.
    """

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self.retries = retries
        self.batch_images = BATCH_IMAGES

    def note(self, answers: Sequence[Answer]) -> None:
        """These came, if any."""
        if answers:
            until_the_time_out = self._retries.attempts is None
            given_up = (UnreachableError, UnavailableError, GatewayError) if until_the_time_out else UnreachableError
            gone = any(isinstance(answer, given_up) for answer in answers)
            self.retries = NO_RETRIES if gone else self._retries

    def no_batch(self, error: ClientError) -> None:
        """The service did not take a batch; where it would not take the next one either, there is none."""
        if not isinstance(error, InternalError):
            self.batch_images = 1


@dataclass(frozen=True, slots=True)
class Asking:
    """The calls of `Client` that answer images."""

    predict: Callable[[EncodedImage, Retries], Prediction]
    predict_batch: Callable[[Sequence[EncodedImage], Retries], BatchPrediction]

    def answers(self, images: Sequence[EncodedImage], patience: Patience) -> list[Answer]:
        """One for each image."""
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
    """The calls of `AsyncClient` that answer images."""

    predict: Callable[[EncodedImage, Retries], Awaitable[Prediction]]
    predict_batch: Callable[[Sequence[EncodedImage], Retries], Awaitable[BatchPrediction]]

    async def answers(self, images: Sequence[EncodedImage], patience: Patience) -> list[Answer]:
        """One for each image."""
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
    """Ask in threads; on an early end, what is not begun is dropped and what is begun is waited for."""
    patience = Patience(retries)
    waiting: deque[Job[Future[Answer]]] = deque()
    window: deque[Job[Future[Answer]]] = deque()

    def ask() -> None:
        taken = take(waiting, patience.batch_images)
        answers = asking.answers([image for _, image in taken if isinstance(image, EncodedImage)], patience)
        patience.note(answers)
        hand_out(taken, answers)

    with ThreadPoolExecutor(concurrency, thread_name_prefix="cifar10-client") as threads:
        try:
            for index, image in enumerate(images):
                window.append(Job(index, name_of(image), hold(image), Future()))
                waiting.append(window[-1])
                threads.submit(ask)
                while window and (len(window) >= AHEAD * concurrency or window[0].answer.done()):
                    first = window.popleft()
                    yield first.result(first.answer.result())
            while window:
                first = window.popleft()
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
    """Ask in tasks; on an early end all of them are cancelled."""
    patience = Patience(retries)
    free = asyncio.Semaphore(concurrency)
    waiting: deque[Job[asyncio.Future[Answer]]] = deque()
    window: deque[Job[asyncio.Future[Answer]]] = deque()
    tasks: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()

    async def ask() -> None:
        async with free:
            taken = await asyncio.to_thread(take, waiting, patience.batch_images) if waiting else []
            answers = await asking.answers([image for _, image in taken if isinstance(image, EncodedImage)], patience)
            patience.note(answers)
            hand_out(taken, answers)

    try:
        index = 0
        async for image in _each(images):
            held = hold(image) if is_quick(image) or not may_change(image) else await asyncio.to_thread(hold, image)
            window.append(Job(index, name_of(image), held, loop.create_future()))
            waiting.append(window[-1])
            task = asyncio.create_task(ask())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            index += 1
            while window and (len(window) >= AHEAD * concurrency or window[0].answer.done()):
                first = window.popleft()
                yield first.result(await first.answer)
        while window:
            first = window.popleft()
            yield first.result(await first.answer)
    finally:
        waiting.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def hold(image: ImageSource) -> Held:
    """Encode now what its owner may change or close before it is sent, as generators do: a frame, an open file."""
    if not may_change(image):
        return image
    try:
        return encode_image(image)
    except ImageSourceError as error:
        return error


def take(waiting: deque[Job[AnyFuture]], most: int) -> list[tuple[Job[AnyFuture], EncodedImage | Exception]]:
    """The images that one request will have, read and encoded, or why one can't be; fewer where fewer wait."""
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
    """The answers in a batch's answer.

    Raises:
        UnexpectedAnswerError: they are not one for each image.
    """
    answers = [result.prediction or (problem_error(result.error) if result.error else None) for result in batch.results]
    found = [answer for answer in answers if answer is not None]
    if len(found) != images:
        raise UnexpectedAnswerError(f"{images} images were answered with {len(found)} results")
    return list(found)


def check_concurrency(concurrency: int) -> None:
    """Whether so many may be asked at a time.

    Raises:
        ValueError: less than one.
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
