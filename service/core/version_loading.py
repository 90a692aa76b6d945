"""Brings one version up and down: verify, load, golden check, warm up; and at its end drain, unload.

Runs in the loading thread, and what may hang in threads of its own, so that one version doesn't keep the others from
being loaded. Which versions, and when, is `service.core.repository`'s part.
"""

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from catalog.artifact import read_metadata, verify
from catalog.documents import printable
from catalog.errors import ProjectError
from catalog.labels import IMAGE_SHAPE
from catalog.metadata import ModelMetadata
from catalog.responses import VersionState
from runtime.base import LoadedModel, Runtime
from runtime.golden import check_golden
from service.core.bounded_calls import BoundedCalls, CallsStoppedError, UnresponsiveError
from service.core.model_version import ModelVersion
from service.core.scheduler import LONGEST_BATCH_S

GOLDEN_IMAGES: Final = 16
"""A wrong build, weight or precision shows in every image; of a large network all of them take half a second."""
TIMED_CALLS: Final = 5
READ_LIMIT_S: Final = 30.0
SLOWEST_BYTES_PER_S: Final = 2**20
"""Lowest read rate of a working file system."""
DEFAULT_LOAD_LIMIT_S: Final = 600.0
MAX_REASON: Final = 2_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Loaded:
    """A model that answers as it did, the greatest difference of a golden probability, and the time for an image."""

    model: LoadedModel
    difference: float
    row_s: float


class VersionLoader:
    """Loads versions with one runtime.

    Args:
        models: the models folder, left out of reasons.
        load_limit_s: the longest time that the runtime may take to load and try a version, in seconds.
    """

    def __init__(self, models: Path, runtime: Runtime, *, load_limit_s: float = DEFAULT_LOAD_LIMIT_S) -> None:
        self._models = models
        self._runtime = runtime
        self._load_limit_s = load_limit_s
        self._calls = BoundedCalls()

    def stop(self) -> None:
        """Give up what is being loaded, from any thread."""
        self._calls.stop()

    def read_metadata(self, entry: ModelVersion) -> None:
        """Read what is known of a version; one without readable metadata has failed."""
        try:
            entry.metadata = self._metadata(entry)
        except CallsStoppedError:
            return
        except (ProjectError, OSError) as error:
            self._fail(entry, error)

    def load(self, entry: ModelVersion) -> bool:
        """Whether the version is ready; one that isn't has failed, with a reason, and harms no other."""
        start_s = time.monotonic()
        entry.state, entry.reason = VersionState.LOADING, None
        try:
            metadata = entry.metadata = self._metadata(entry)
            size_bytes = sum(record.size_bytes for record in metadata.files.values())
            read_limit_s = READ_LIMIT_S + size_bytes / SLOWEST_BYTES_PER_S
            self._calls.run(str(entry), lambda: verify(entry.folder, metadata), read_limit_s)
            loaded = self._calls.run(str(entry), lambda: self._load(entry.folder, metadata), self._load_limit_s)
        except CallsStoppedError:
            entry.state = VersionState.PUBLISHED
        except ProjectError as error:
            self._fail(entry, error)
        except Exception as error:  # one broken version must not stop the others, whatever broke
            if not isinstance(error, UnresponsiveError):
                logger.exception("%s", entry)
            self._fail(entry, error)
        else:
            entry.load_time_ms = (time.monotonic() - start_s) * 1000
            entry.model, entry.row_s = loaded.model, loaded.row_s
            entry.state = VersionState.READY
            logger.info(
                "%s is ready after %.0f ms; golden answers differ by at most %.1e",
                entry,
                entry.load_time_ms,
                loaded.difference,
            )
        return entry.state is VersionState.READY

    def may_recover(self, entry: ModelVersion) -> bool:
        """Return true where a version failed because something hung that hangs no longer."""
        return entry.may_recover and not self._calls.is_under_way(str(entry))

    def unload(self, entry: ModelVersion, drain_limit_s: float) -> None:
        """Let the requests that have it finish, then let its memory go; it must not be routed to any more."""
        entry.state = VersionState.DRAINING
        entry.retire()
        if not entry.wait_until_unused(drain_limit_s):
            logger.warning("unloading %s although requests still use it after %g s", entry, drain_limit_s)
        entry.model = None
        logger.info("%s unloaded", entry)

    def _metadata(self, entry: ModelVersion) -> ModelMetadata:
        return self._calls.run(str(entry), lambda: read_metadata(entry.folder), READ_LIMIT_S)

    def _load(self, folder: Path, metadata: ModelMetadata) -> _Loaded:
        model = self._runtime.load(folder)
        difference = check_golden(model, folder, metadata, self._runtime.precision, most_images=GOLDEN_IMAGES)
        return _Loaded(model, difference, _warm(model))

    def _fail(self, entry: ModelVersion, error: Exception) -> None:
        if isinstance(error, UnresponsiveError):
            reason = f"{error.strerror}: a file of the version, or its graph, may hang."
        elif isinstance(error, ProjectError):
            reason = str(error)
        else:
            reason = f"{type(error).__name__}: {error}"
        entry.reason = printable(reason.replace(f"{self._models}{os.sep}", ""), MAX_REASON)
        entry.may_recover = isinstance(error, UnresponsiveError)
        entry.state = VersionState.FAILED
        logger.error("%s can't serve: %s", entry, entry.reason)


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
