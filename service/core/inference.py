"""One image in, one prediction out: decode, compute, name the classes; the way that every protocol goes.

Owns the worker threads and the deadline. Which version answers is `repository`'s part, how many requests may
be inside is `admission`'s, HTTP is `service.api`'s.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from catalog.labels import CLASS_NAMES
from catalog.responses import ClassProbability, Prediction
from service.core.admission import Admission
from service.core.repository import ModelRepository, ModelVersion
from service.errors import DeadlineError
from service.images import EncodedImage

DECODE_IN_PLACE_PIXELS: Final = 128 * 128
"""Decoding so few pixels takes less than the hop to another thread would hold up the event loop."""


class Inference:
    """The data plane: protocols call `predict`.

    Args:
        repository: the versions that may answer.
        admission: the slots for requests.
        request_timeout_s: longest time from acceptance to answer.
        max_image_pixels: greatest width times height of an image.
    """

    def __init__(
        self, repository: ModelRepository, admission: Admission, *, request_timeout_s: float, max_image_pixels: int
    ) -> None:
        self._repository = repository
        self._admission = admission
        self._request_timeout_s = request_timeout_s
        self._max_image_pixels = max_image_pixels
        self._threads = ThreadPoolExecutor(max_workers=_usable_cores(), thread_name_prefix="inference")

    async def predict(
        self, content: bytes, *, model: str | None = None, version: int | None = None, top_k: int
    ) -> Prediction:
        """The most probable classes of an encoded image.

        Args:
            content: a file in one of `service.images.READABLE_FORMATS`.
            model: None for the default model.
            version: None for the latest that is ready.
            top_k: how many classes, 1 to 10.

        Raises:
            RequestError: see the tree in `service.errors`.
        """
        self._admission.check()
        chosen = self._repository.find(model, version)
        image = EncodedImage(content, max_pixels=self._max_image_pixels)
        pixels = image.decode() if image.pixels <= DECODE_IN_PLACE_PIXELS else None
        self._admission.enter()
        loop = asyncio.get_running_loop()
        work = self._threads.submit(_compute, chosen, image, pixels)
        # The slot is given back when the thread is done, not when the deadline has passed.
        work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._admission.leave))
        try:
            probabilities = await asyncio.wait_for(asyncio.wrap_future(work), self._request_timeout_s)
        except TimeoutError:
            raise DeadlineError(
                f"no answer within {self._request_timeout_s:g} s", remedy="send less at once, or try again later"
            ) from None
        return name_classes(chosen, probabilities, top_k)

    def close(self) -> None:
        """Wait for the work that has started; nothing is computed afterwards."""
        self._threads.shutdown(wait=True, cancel_futures=True)


def _compute(chosen: ModelVersion, image: EncodedImage, pixels: NDArray[np.uint8] | None) -> NDArray[np.float32]:
    if chosen.model is None:
        raise AssertionError(f"{chosen.name} version {chosen.version} was chosen before it was ready")
    images = (image.decode() if pixels is None else pixels)[np.newaxis]
    probabilities: NDArray[np.float32] = chosen.model.predict(images)[0]
    return probabilities


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
