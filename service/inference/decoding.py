"""Decoding of images: a small one on the event loop, a large one in a thread.

`service.images.encoded` does the decoding.
"""

import asyncio
import contextlib
import time
from concurrent.futures import Future
from functools import partial
from typing import Final

from cifar10_serving.artifacts.metadata import InputShape
from cifar10_serving.runtimes.base import Images
from cifar10_serving.runtimes.machine import usable_cores
from service.images.decode_threads import DecodeThreads, Pixels
from service.images.encoded import EncodedImage
from service.images.fast_decode import decode_unchanged
from service.inference.admission import Admission

IN_PLACE_BYTES: Final = 16 * 1024
IN_PLACE_PIXELS: Final = 128 * 128
"""Decoding such a small image takes less time than handing it to a thread. Both limits apply: a long file can be slow
to decode despite few pixels, and decoding on the event loop blocks it."""
PIXELS_PER_BYTE: Final = 8
"""Typical ratio of a JPEG photo, to estimate the size of an image before it is read."""
DEFAULT_MAX_DECODE_BYTES: Final = 512 * 2**20


class Decoder:
    """Decodes uploaded files.

    Args:
        admission: keeps the slot of work that outlives its request.
        max_image_pixels: maximum width times height of an image.
        max_decode_bytes: memory limit for all images that are decoded at the same time.
        threads: the threads to use; None for new ones.
    """

    def __init__(
        self,
        admission: Admission,
        *,
        max_image_pixels: int,
        max_decode_bytes: int = DEFAULT_MAX_DECODE_BYTES,
        threads: DecodeThreads | None = None,
    ) -> None:
        self._admission = admission
        self._max_image_pixels = max_image_pixels
        self._threads = threads or DecodeThreads(
            threads=usable_cores(), max_decode_bytes=max_decode_bytes, held_bytes=lambda: admission.pending_bytes
        )

    @property
    def threads(self) -> DecodeThreads:
        """The threads in which large images are decoded."""
        return self._threads

    async def decode(self, content: bytes, shape: InputShape, expires_s: float) -> Images:
        """Return the pixels (1, height, width, 3) uint8 RGB 0..255 of an encoded image.

        Args:
            content: a file in one of `service.images.encoded.READABLE_FORMATS`.
            shape: height, width and channels of the result.
            expires_s: the deadline in `time.monotonic`'s time.

        Raises:
            TimeoutError: the deadline has passed; a thread that is still decoding keeps its slot until it is done.
            RequestError: see `service.images.encoded`; an `UnavailableError` if it can't be decoded in time.
        """
        read = partial(EncodedImage, content, shape, max_pixels=self._max_image_pixels)
        expected_pixels = PIXELS_PER_BYTE * len(content)
        if len(content) <= IN_PLACE_BYTES and shape[0] * shape[1] <= IN_PLACE_PIXELS:
            pixels = decode_unchanged(content, shape)
            if pixels is not None:
                return pixels[None]
            image = read()
            if image.pixels <= IN_PLACE_PIXELS and not image.is_slow:
                return image.decode()[None]
            read, expected_pixels = partial(_given, image), image.pixels
        work = self._threads.submit(read, expected_pixels=expected_pixels, expires_s=expires_s)
        try:
            pixels = await _within(work, expires_s)
        except (TimeoutError, asyncio.CancelledError):
            work.cancel()
            self._give_up(work, expires_s)
            raise
        return pixels[None]

    def close(self) -> None:
        """Decode nothing that hasn't started; started work ends by itself."""
        self._threads.close()

    def _give_up(self, work: "Future[Pixels]", expires_s: float) -> None:
        """Let unfinished work keep its slot until it is done, and replace its thread if it never is."""
        if work.done():
            return
        loop = asyncio.get_running_loop()
        self._admission.stay()
        overdue_s = max(0.0, expires_s - time.monotonic()) + self._threads.overdue_after_s
        timer = loop.call_later(overdue_s, self._threads.replace_overdue)

        def leave() -> None:
            timer.cancel()
            self._admission.leave()

        def done(_: "Future[Pixels]") -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: slots no longer matter
                loop.call_soon_threadsafe(leave)

        work.add_done_callback(done)


def _given(image: EncodedImage) -> EncodedImage:
    return image


async def _within(work: "Future[Pixels]", expires_s: float) -> Pixels:
    """Return the pixels that a thread computes. Unlike `asyncio.wait_for`, this works without a task.

    Raises:
        TimeoutError: the deadline has passed.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Pixels] = loop.create_future()
    timer = loop.call_later(max(0.0, expires_s - time.monotonic()), _expire, answer)
    work.add_done_callback(partial(_settle_soon, loop, answer))
    try:
        return await answer
    finally:
        timer.cancel()
        # The error's traceback refers to this frame: a reference here would keep both, and the image, alive.
        del answer


def _expire(answer: "asyncio.Future[Pixels]") -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


def _settle_soon(loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[Pixels]", work: "Future[Pixels]") -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is waiting
        loop.call_soon_threadsafe(_settle, answer, work)


def _settle(answer: "asyncio.Future[Pixels]", work: "Future[Pixels]") -> None:
    if answer.done():
        return
    if work.cancelled():
        answer.cancel()
    elif (error := work.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(work.result())
