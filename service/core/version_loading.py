"""Brings one version up and down: verify, load, golden check, warm up; and at its end drain, unload.

Runs in the loading thread. Which versions, and when, is `service.core.repository`'s part.
"""

import logging
import os
import time
from pathlib import Path
from typing import Final

import numpy as np

from catalog.artifact import read_metadata, verify
from catalog.errors import ProjectError
from catalog.labels import IMAGE_SHAPE
from catalog.responses import VersionState
from runtime.base import LoadedModel, Runtime
from runtime.golden import check_golden
from service.core.model_version import ModelVersion
from service.core.scheduler import LONGEST_BATCH_S

GOLDEN_IMAGES: Final = 16
"""A wrong build, weight or precision shows in every image; of a large network all of them take half a second."""
TIMED_CALLS: Final = 5

logger = logging.getLogger(__name__)


class VersionLoader:
    """Loads versions with one runtime.

    Args:
        models: the models folder, left out of reasons.
    """

    def __init__(self, models: Path, runtime: Runtime) -> None:
        self._models = models
        self._runtime = runtime

    def read_metadata(self, entry: ModelVersion) -> None:
        """Read what is known of a version; one without readable metadata has failed."""
        try:
            entry.metadata = read_metadata(entry.folder)
        except (ProjectError, OSError) as error:
            self._fail(entry, self._without_folder(error))

    def load(self, entry: ModelVersion) -> bool:
        """Whether the version is ready; one that isn't has failed, with a reason, and harms no other."""
        start_s = time.monotonic()
        entry.state, entry.reason = VersionState.LOADING, None
        try:
            entry.metadata = read_metadata(entry.folder)
            verify(entry.folder, entry.metadata)
            model = self._runtime.load(entry.folder)
            difference = check_golden(
                model, entry.folder, entry.metadata, self._runtime.precision, most_images=GOLDEN_IMAGES
            )
            entry.row_s = _warm(model)
        except ProjectError as error:
            self._fail(entry, self._without_folder(error))
        except Exception as error:  # one broken version must not stop the others, whatever broke
            logger.exception("%s", entry)
            self._fail(entry, f"{type(error).__name__}: {error}")
        else:
            entry.load_time_ms = (time.monotonic() - start_s) * 1000
            entry.model = model
            entry.state = VersionState.READY
            logger.info(
                "%s is ready after %.0f ms; golden answers differ by at most %.1e",
                entry,
                entry.load_time_ms,
                difference,
            )
        return entry.state is VersionState.READY

    def unload(self, entry: ModelVersion, drain_limit_s: float) -> None:
        """Let the requests that have it finish, then let its memory go; it must not be routed to any more."""
        entry.state = VersionState.DRAINING
        entry.retire()
        if not entry.wait_until_unused(drain_limit_s):
            logger.warning("%s is unloaded though requests have used it for %g s", entry, drain_limit_s)
        entry.model = None
        logger.info("%s is unloaded", entry)

    def _without_folder(self, error: Exception) -> str:
        return str(error).replace(f"{self._models}{os.sep}", "")

    def _fail(self, entry: ModelVersion, reason: str) -> None:
        entry.reason = reason
        entry.state = VersionState.FAILED
        logger.error("%s can't serve: %s", entry, reason)


def _warm(model: LoadedModel) -> float:
    """Compute each batch size once: what a runtime prepares for a size is prepared before the first request.

    Sizes that take longer than any batch may are left out.

    Returns:
        How long one image alone takes, in seconds.
    """
    model.predict_alone(np.zeros((1, *IMAGE_SHAPE), np.uint8))
    row_s = min(_duration_s(model) for _ in range(TIMED_CALLS))
    for rows in model.warm_up_rows:
        if rows == 1 or rows <= LONGEST_BATCH_S / row_s:
            model.predict(np.zeros((rows, *IMAGE_SHAPE), np.uint8))
    return row_s


def _duration_s(model: LoadedModel) -> float:
    start_s = time.perf_counter()
    model.predict_alone(np.zeros((1, *IMAGE_SHAPE), np.uint8))
    return time.perf_counter() - start_s
