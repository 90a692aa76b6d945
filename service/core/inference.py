"""One image in, one prediction out: decode, compute, name the classes; the way that every protocol goes.

Owns the worker threads and the deadline. Which version answers is `repository`'s part, how many requests may
be inside is `admission`'s, HTTP is `service.api`'s.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Final

import numpy as np
from numpy.typing import NDArray

from catalog.labels import CLASS_NAMES
from catalog.responses import ClassProbability, Prediction
from service.core.admission import Admission
from service.core.repository import ModelRepository, ModelVersion
from service.core.shadow import Shadow
from service.errors import DeadlineError, UnavailableError
from service.images import EncodedImage

THREAD_NAME_PREFIX: Final = "inference"
DECODE_IN_PLACE_BYTES: Final = 16 * 1024
DECODE_IN_PLACE_PIXELS: Final = 128 * 128
"""Decoding so little takes less than a hop to another thread. Both must be small: a long file can be slow to decode
however few its pixels, and whatever is decoded in place holds up the event loop."""


class Inference:
    """The data plane: protocols take a `slot`, read the request, and call `predict`.

    Args:
        repository: the versions that may answer.
        admission: the slots for requests.
        request_timeout_s: longest time from a whole request to its answer.
        max_image_pixels: greatest width times height of an image.
    """

    def __init__(
        self, repository: ModelRepository, admission: Admission, *, request_timeout_s: float, max_image_pixels: int
    ) -> None:
        self._repository = repository
        self._admission = admission
        self._request_timeout_s = request_timeout_s
        self._max_image_pixels = max_image_pixels
        cores = _usable_cores()
        self._shadow = Shadow(
            repository, lambda: admission.pending > cores, thread_name_prefix=f"{THREAD_NAME_PREFIX}-shadow"
        )
        self._threads = ThreadPoolExecutor(max_workers=cores, thread_name_prefix=THREAD_NAME_PREFIX)

    def slot(self) -> AbstractContextManager[None]:
        """A place for one request, from before its body is read to its answer.

        Raises:
            UnavailableError: there is none free.
        """
        return self._admission.slot()

    async def predict(
        self, content: bytes, *, model: str | None = None, version: int | str | None = None, top_k: int
    ) -> Prediction:
        """The most probable classes of an encoded image; called within a `slot`.

        Args:
            content: a file in one of `service.images.READABLE_FORMATS`.
            model: None for the default model.
            version: a number or a label; None for the one that answers where none is asked for.
            top_k: how many classes, 1 to 10.

        Raises:
            RequestError: see the tree in `service.errors`.
        """
        with self._repository.lease(model, version) as chosen:
            work = self._threads.submit(self._work(chosen, content))
            try:
                probabilities = await asyncio.wait_for(asyncio.wrap_future(work), self._request_timeout_s)
            except TimeoutError:
                self._hold_slot_until_done(work)
                raise deadline_passed(self._request_timeout_s) from None
        return name_classes(chosen, probabilities, top_k)

    def close(self) -> None:
        """Compute nothing that hasn't started; what has is left to end by itself."""
        self._shadow.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _work(self, chosen: ModelVersion, content: bytes) -> Callable[[], NDArray[np.float32]]:
        if len(content) > DECODE_IN_PLACE_BYTES:
            return lambda: self._compute(chosen, EncodedImage(content, max_pixels=self._max_image_pixels).decode())
        image = EncodedImage(content, max_pixels=self._max_image_pixels)
        if image.pixels > DECODE_IN_PLACE_PIXELS:
            return lambda: self._compute(chosen, image.decode())
        pixels = image.decode()
        return lambda: self._compute(chosen, pixels)

    def _compute(self, chosen: ModelVersion, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        if chosen.model is None:
            raise UnavailableError(f"{chosen} was withdrawn while the request waited", retry_after_s=1)
        probabilities: NDArray[np.float32] = chosen.model.predict(pixels[np.newaxis])[0]
        self._shadow.offer(chosen, pixels, probabilities)
        return probabilities

    def _hold_slot_until_done(self, work: Future[NDArray[np.float32]]) -> None:
        loop = asyncio.get_running_loop()
        self._admission.stay()

        def leave(_: Future[NDArray[np.float32]]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody counts slots any more
                loop.call_soon_threadsafe(self._admission.leave)

        work.add_done_callback(leave)


def deadline_passed(request_timeout_s: float) -> DeadlineError:
    """The error of a request that took longer."""
    return DeadlineError(f"no answer within {request_timeout_s:g} s", remedy="send less at once, or try again later")


def name_classes(chosen: ModelVersion, probabilities: NDArray[np.float32], top_k: int) -> Prediction:
    """The answer for one image from its probabilities (10,) float32; ties go to the lower class number."""
    best = np.argsort(-probabilities, kind="stable")[:top_k].tolist()
    top = [
        ClassProbability(
            label=CLASS_NAMES[index], class_id=index, probability=min(1.0, max(0.0, float(probabilities[index])))
        )
        for index in best
    ]
    return Prediction(
        model=chosen.name,
        version=chosen.version,
        label=top[0].label,
        class_id=top[0].class_id,
        confidence=top[0].probability,
        top=top,
    )


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
