"""Loading of one version: each step runs in a thread with a time-out; the golden answers are checked at the end."""

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from cifar10_serving.artifacts.documents import printable
from cifar10_serving.artifacts.layout import read_metadata, verify
from cifar10_serving.artifacts.metadata import InputShape, ModelMetadata
from cifar10_serving.errors import ProjectError
from cifar10_serving.runtimes.base import Images, LoadedModel, Runtime
from cifar10_serving.runtimes.machine import return_free_memory
from cifar10_serving.runtimes.verification import CheckedModel, load_checked
from cifar10_serving.schemas import VersionState
from service.inference.scheduler import MAX_BATCH_S
from service.registry.version import ModelVersion

THREAD_NAME_PREFIX: Final = "loading"

Value = TypeVar("Value")
TIMED_CALLS: Final = 5
READ_LIMIT_S: Final = 30.0
SLOWEST_BYTES_PER_S: Final = 2**20
"""Lowest read rate of a working file system."""
DEFAULT_LOAD_LIMIT_S: Final = 600.0
MAX_REASON: Final = 2_000

logger = logging.getLogger(__name__)


class UnresponsiveError(OSError):
    """Raised for a call that has not returned in time, or whose earlier call has not."""

    def __init__(self, problem: str) -> None:
        super().__init__(errno.ETIMEDOUT, problem)


class CallsStoppedError(Exception):
    """Raised for a call that `BoundedCalls.stop` has abandoned."""


class BoundedCalls:
    """Makes calls that may never return; thread-safe."""

    def __init__(self) -> None:
        self._stopped: Future[None] = Future()
        self._under_way: dict[str, threading.Thread] = {}

    def run(self, what: str, call: Callable[[], Value], limit_s: float) -> Value:
        """Return the result of a call, or raise its exception.

        Args:
            what: a name for the call; while an abandoned call of this name has not returned, it is not made again.
            limit_s: time limit in seconds.

        Raises:
            UnresponsiveError: the call took longer.
            CallsStoppedError: `stop` was called.
        """
        if self.is_under_way(what):
            raise UnresponsiveError("it still does not respond")
        outcome: Future[Value] = Future()
        thread = threading.Thread(
            target=_settle, args=(outcome, call), name=f"{THREAD_NAME_PREFIX} {what}", daemon=True
        )
        self._under_way[what] = thread
        thread.start()
        either: tuple[Future[Any], ...] = (outcome, self._stopped)
        wait(either, limit_s, FIRST_COMPLETED)
        if outcome.done():
            del self._under_way[what]
            return outcome.result()
        if self._stopped.done():
            raise CallsStoppedError
        raise UnresponsiveError(f"no response within {limit_s:g} s")

    def is_under_way(self, what: str) -> bool:
        """Return whether an abandoned call of this name has not returned yet."""
        thread = self._under_way.get(what)
        return thread is not None and thread.is_alive()

    def stop(self) -> None:
        """Abandon every call, including future ones."""
        if not self._stopped.done():
            self._stopped.set_result(None)


def _settle(outcome: "Future[Value]", call: Callable[[], Value]) -> None:
    try:
        outcome.set_result(call())
    except BaseException as error:  # noqa: BLE001  # whatever it is, the caller raises it
        outcome.set_exception(error)


class VersionLoader:
    """Loads versions with one runtime, each in the fastest precision that is accurate enough.

    Args:
        models: the models folder, which is removed from paths in reasons.
        max_accuracy_drop: maximum loss of stored test accuracy, compared with float32, for a faster precision.
        load_limit_s: time limit for the runtime to load and check a version, in seconds.
    """

    def __init__(
        self,
        models: Path,
        runtime: Runtime,
        *,
        max_accuracy_drop: float = 0.0,
        load_limit_s: float = DEFAULT_LOAD_LIMIT_S,
    ) -> None:
        self._models = models
        self._runtime = runtime
        self._max_accuracy_drop = max_accuracy_drop
        self._load_limit_s = load_limit_s
        self._calls = BoundedCalls()

    def stop(self) -> None:
        """Abandon all loading; thread-safe."""
        self._calls.stop()

    def read_metadata(self, entry: ModelVersion) -> None:
        """Read a version's metadata; mark it as failed if they can't be read."""
        try:
            entry.metadata = self._metadata(entry)
        except CallsStoppedError:
            return
        except (ProjectError, OSError) as error:
            self._fail(entry, error)

    def load(self, entry: ModelVersion) -> bool:
        """Load a version and return whether it is ready; otherwise mark it as failed, with a reason."""
        start_s = time.monotonic()
        entry.state, entry.reason = VersionState.LOADING, None
        try:
            metadata = entry.metadata = self._metadata(entry)
            size_bytes = sum(record.size_bytes for record in metadata.files.values())
            read_limit_s = READ_LIMIT_S + size_bytes / SLOWEST_BYTES_PER_S
            self._calls.run(str(entry), lambda: verify(entry.folder, metadata), read_limit_s)
            loaded, row_s = self._calls.run(str(entry), lambda: self._load(entry.folder, metadata), self._load_limit_s)
        except CallsStoppedError:
            entry.state = VersionState.PUBLISHED
        except ProjectError as error:
            self._fail(entry, error)
        except Exception as error:  # one broken version must not affect the others
            if not isinstance(error, UnresponsiveError):
                logger.exception("loading %s failed", entry)
            self._fail(entry, error)
        else:
            entry.load_time_ms = (time.monotonic() - start_s) * 1000
            entry.model, entry.row_s, entry.precision = loaded.model, row_s, loaded.model.precision
            entry.state = VersionState.READY
            logger.info(
                "%s is ready in %s after %.0f ms; golden answers differ by at most %.1e",
                entry,
                entry.precision,
                entry.load_time_ms,
                loaded.difference,
            )
        return entry.state is VersionState.READY

    def may_recover(self, entry: ModelVersion) -> bool:
        """Return whether a version failed because something hung that hangs no longer."""
        return entry.may_recover and not self._calls.is_under_way(str(entry))

    def unload(self, entry: ModelVersion, drain_limit_s: float) -> None:
        """Unload a version after its last requests; it must not be routed to any more."""
        entry.state = VersionState.DRAINING
        entry.retire()
        if not entry.wait_until_unused(drain_limit_s):
            logger.warning("unloading %s although requests still use it after %g s", entry, drain_limit_s)
        entry.model = None
        return_free_memory()
        logger.info("%s unloaded", entry)

    def _metadata(self, entry: ModelVersion) -> ModelMetadata:
        return self._calls.run(str(entry), lambda: read_metadata(entry.folder), READ_LIMIT_S)

    def _load(self, folder: Path, metadata: ModelMetadata) -> tuple[CheckedModel, float]:
        loaded = load_checked(folder, metadata, self._runtime, max_accuracy_drop=self._max_accuracy_drop)
        row_s = _warm(loaded.model, metadata.input_shape)
        return_free_memory()  # of the precisions and layouts that were slower
        return loaded, row_s

    def _fail(self, entry: ModelVersion, error: Exception) -> None:
        if isinstance(error, UnresponsiveError):
            reason = f"{error.strerror}: a file of the version, or its graph, may hang."
        elif isinstance(error, ProjectError):
            reason = str(error)
        else:
            reason = f"{type(error).__name__}: {error}"
        entry.may_recover = isinstance(error, UnresponsiveError)
        entry.fail(printable(reason.replace(f"{self._models}{os.sep}", ""), MAX_REASON))


def _warm(model: LoadedModel, shape: InputShape) -> float:
    """Compute each batch size once, so that the runtime's preparation does not delay the first request.

    Skip sizes that take longer than a batch may take.

    Returns:
        The time for one image, in seconds.
    """
    image = np.zeros((1, *shape), np.uint8)
    model.predict_alone(image)
    row_s = min(_duration_s(model, image) for _ in range(TIMED_CALLS))
    for rows in model.warm_up_rows:
        if rows == 1 or rows <= MAX_BATCH_S / row_s:
            model.predict(np.zeros((rows, *shape), np.uint8))
    return row_s


def _duration_s(model: LoadedModel, image: Images) -> float:
    start_s = time.perf_counter()
    model.predict_alone(image)
    return time.perf_counter() - start_s
