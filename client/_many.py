"""Many images, one result each, in order, with bounded memory; what the two clients' `predict_many` share.

At most `concurrency` images are read or sent at a time, and at most `AHEAD` times as many results wait for one before
them that takes longer.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from catalog.responses import Prediction
from client._config import NO_RETRIES, Retries
from client._errors import ClientError, UnreachableError
from client._images import ImageSource, name_of

__all__ = ["ImageResult"]

AHEAD: Final = 4


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


class Patience:
    """The retries of the next image: none while the service can't be reached at all.

    Else each image of a folder would wait through all of its retries for a service that is gone.
    """

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self.retries = retries

    def note(self, error: ClientError | None) -> None:
        """An image was answered, or not."""
        self.retries = NO_RETRIES if isinstance(error, UnreachableError) else self._retries


def predict_in_order(
    predict: Callable[[ImageSource, Retries], Prediction],
    images: Iterable[ImageSource],
    *,
    concurrency: int,
    retries: Retries,
) -> Generator[ImageResult]:
    """Ask in threads; on an early end, what is not begun is dropped and what is begun is waited for."""
    patience = Patience(retries)

    def one(index: int, image: ImageSource) -> ImageResult:
        try:
            result = ImageResult(index, name_of(image), prediction=predict(image, patience.retries))
        except ClientError as error:
            result = ImageResult(index, name_of(image), error=error)
        patience.note(result.error)
        return result

    window: deque[Future[ImageResult]] = deque()
    with ThreadPoolExecutor(concurrency, thread_name_prefix="cifar10-client") as threads:
        try:
            for index, image in enumerate(images):
                window.append(threads.submit(one, index, image))
                while window and (len(window) >= AHEAD * concurrency or window[0].done()):
                    yield window.popleft().result()
            while window:
                yield window.popleft().result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


async def predict_in_order_async(
    predict: Callable[[ImageSource, Retries], Awaitable[Prediction]],
    images: Iterable[ImageSource] | AsyncIterable[ImageSource],
    *,
    concurrency: int,
    retries: Retries,
) -> AsyncGenerator[ImageResult]:
    """Ask in tasks; on an early end all of them are cancelled."""
    patience = Patience(retries)
    free = asyncio.Semaphore(concurrency)

    async def one(index: int, image: ImageSource) -> ImageResult:
        async with free:
            try:
                result = ImageResult(index, name_of(image), prediction=await predict(image, patience.retries))
            except ClientError as error:
                result = ImageResult(index, name_of(image), error=error)
            patience.note(result.error)
            return result

    window: deque[asyncio.Task[ImageResult]] = deque()
    try:
        index = 0
        async for image in _each(images):
            window.append(asyncio.create_task(one(index, image)))
            index += 1
            while window and (len(window) >= AHEAD * concurrency or window[0].done()):
                yield await window.popleft()
        while window:
            yield await window.popleft()
    finally:
        for task in window:
            task.cancel()
        await asyncio.gather(*window, return_exceptions=True)


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
