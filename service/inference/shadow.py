"""Lets a model's shadow version compute what another version answered, and counts how often they agree.

A shadow never delays requests: it has one thread and a short queue, and pauses while requests are queued. The
repository decides which version is the shadow.
"""

import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.registry.repository import ModelRepository
from service.registry.version import ModelVersion

MAX_WAITING: Final = 16

logger = logging.getLogger(__name__)


class Shadow:
    """The comparisons of all models.

    Args:
        repository: knows the shadow versions.
        is_busy: returns whether requests are queued.
        thread_name_prefix: prefix of the thread's name.
    """

    def __init__(self, repository: ModelRepository, is_busy: Callable[[], bool], *, thread_name_prefix: str) -> None:
        self._repository = repository
        self._is_busy = is_busy
        self._waiting = threading.BoundedSemaphore(MAX_WAITING)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=thread_name_prefix)

    def offer(self, chosen: ModelVersion, pixels: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> None:
        """Compare an answer, if its model has a shadow and there is time; returns at once. Thread-safe.

        Args:
            chosen: the version that answered.
            pixels: its input, (height, width, 3) uint8 RGB 0..255.
            probabilities: its answer, (classes,) float32.
        """
        shadow = self._repository.shadow_of(chosen.name)
        if shadow is None or shadow is chosen:
            return
        if shadow.input_shape != chosen.input_shape:  # the two can't be compared
            shadow.comparison.failed()
            return
        if self._is_busy() or not self._waiting.acquire(blocking=False):
            shadow.comparison.dropped()
            return
        if shadow.acquire():
            with contextlib.suppress(RuntimeError):  # closed: the service is stopping
                self._thread.submit(self._compare, shadow, pixels, chosen.labels[int(probabilities.argmax())])
                return
            shadow.release()
        self._waiting.release()

    def close(self) -> None:
        """Stop comparing."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _compare(self, shadow: ModelVersion, pixels: NDArray[np.uint8], answered: str) -> None:
        try:
            if shadow.model is not None:
                label = shadow.labels[int(shadow.model.predict(pixels[np.newaxis])[0].argmax())]
                shadow.comparison.compared(agreed=label == answered)
        except Exception:  # nobody waits for the result
            logger.exception("%s failed as a shadow", shadow)
            shadow.comparison.failed()
        finally:
            shadow.release()
            self._waiting.release()
