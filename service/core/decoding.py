"""Where an image is decoded: a small one in place, a large one in a thread of its own.

What decoding is and what it refuses is `service.images`' part.
"""

import asyncio
import contextlib
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from runtime.base import Images
from runtime.cores import usable_cores
from service.core.admission import Admission
from service.images import EncodedImage
from service.unchanged_images import decode_unchanged

THREAD_NAME_PREFIX: Final = "decode"
IN_PLACE_BYTES: Final = 16 * 1024
IN_PLACE_PIXELS: Final = 128 * 128
"""Decoding so little takes less than a hop to another thread. Both must be small: a long file can be slow to decode
however few its pixels, and whatever is decoded in place holds up the event loop."""


class Decoder:
    """Decodes uploaded files.

    Args:
        admission: keeps the slot of work that outlives its request.
        max_image_pixels: greatest width times height of an image.
    """

    def __init__(self, admission: Admission, *, max_image_pixels: int) -> None:
        self._admission = admission
        self._max_image_pixels = max_image_pixels
        self._threads = ThreadPoolExecutor(max_workers=usable_cores(), thread_name_prefix=THREAD_NAME_PREFIX)

    async def decode(self, content: bytes, expires_s: float) -> Images:
        """The pixels (1, 32, 32, 3) uint8 RGB 0..255 of an encoded image.

        Args:
            content: a file in one of `service.images.READABLE_FORMATS`.
            expires_s: in `time.monotonic`'s time.

        Raises:
            TimeoutError: it was not decoded by then; its thread goes on, and keeps a slot, until it is.
            RequestError: see `service.images`.
        """
        if len(content) <= IN_PLACE_BYTES:
            pixels = decode_unchanged(content)
            if pixels is not None:
                return pixels[None]
            image = EncodedImage(content, max_pixels=self._max_image_pixels)
            if image.pixels <= IN_PLACE_PIXELS:
                return image.decode()[None]
            work = self._threads.submit(lambda: image.decode()[None])
        else:
            work = self._threads.submit(lambda: EncodedImage(content, max_pixels=self._max_image_pixels).decode()[None])
        try:
            return await asyncio.wait_for(asyncio.wrap_future(work), max(0.0, expires_s - time.monotonic()))
        except TimeoutError:
            self._hold_slot_until_done(work)
            raise

    def close(self) -> None:
        """Decode nothing that hasn't started; what has is left to end by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _hold_slot_until_done(self, work: Future[Images]) -> None:
        loop = asyncio.get_running_loop()
        self._admission.stay()

        def leave(_: Future[Images]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody counts slots any more
                loop.call_soon_threadsafe(self._admission.leave)

        work.add_done_callback(leave)
