"""One published version and how far it has come; counts who uses it, so that it is unloaded only when nobody does.

Loading it is `service.registry.loading`'s part, which version answers `service.registry.routing`'s.
"""

import math
import threading
from pathlib import Path

from cifar10_serving.artifacts.metadata import InputShape, ModelMetadata
from cifar10_serving.runtimes.base import LoadedModel
from cifar10_serving.schemas import ShadowStatus, VersionState

FileSignature = tuple[tuple[str, int, int], ...]
"""Path, modification time in ns and size in bytes of every file of a version: what changes when it does. No inodes: on
some network volumes they change by themselves."""


class ModelVersion:
    """A version as it lay in its folder at one time; other files there make another `ModelVersion`.

    `model` is there from the moment it is ready until it is unloaded; `row_s` is the time that it takes for one image
    alone, 0 where it was not measured; `may_recover` is true where it failed because something hung. States change in
    the loading thread only. For requests: `labels` and `input_shape` (height, width, channels) of its metadata, and
    `image_bytes`, which an image's pixels take.

    Args:
        signature: its files as they were found.
    """

    def __init__(self, name: str, version: int, folder: Path, signature: FileSignature) -> None:
        self.name = name
        self.version = version
        self.folder = folder
        self.signature = signature
        self.state = VersionState.PUBLISHED
        self.reason: str | None = None
        self.may_recover = False
        self.labels: tuple[str, ...] = ()
        self.input_shape: InputShape = (0, 0, 0)
        self.image_bytes = 0
        self._metadata: ModelMetadata | None = None
        self.model: LoadedModel | None = None
        self.row_s = 0.0
        self.load_time_ms: float | None = None
        self.comparison = ShadowComparison()
        self._leases = 0
        self._retired = False
        self._lock = threading.Lock()
        self._unused = threading.Condition(self._lock)

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"

    @property
    def metadata(self) -> ModelMetadata | None:
        """What was published about it; None until it was read."""
        return self._metadata

    @metadata.setter
    def metadata(self, metadata: ModelMetadata | None) -> None:
        self._metadata = metadata
        if metadata is not None:
            self.labels, self.input_shape = tuple(metadata.labels), metadata.input_shape
            self.image_bytes = math.prod(self.input_shape)

    def acquire(self) -> bool:
        """Take a lease: until `release`, the version stays loaded. False where it is being unloaded; any thread."""
        with self._lock:
            if not self._retired:
                self._leases += 1
            return not self._retired

    def release(self) -> None:
        """Give a lease back; any thread."""
        with self._lock:
            self._leases -= 1
            if self._retired:
                self._unused.notify_all()

    def retire(self) -> None:
        """Give no more leases."""
        with self._lock:
            self._retired = True

    def wait_until_unused(self, timeout_s: float) -> bool:
        """Wait for the leases to end; whether they did."""
        with self._unused:
            return self._unused.wait_for(lambda: self._leases == 0, timeout_s)


class ShadowComparison:
    """How often a version, as a shadow, gave the class that was answered. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._agreed = self._disagreed = self._dropped = self._failed = 0

    def compared(self, *, agreed: bool) -> None:
        """Count one comparison."""
        with self._lock:
            self._agreed += agreed
            self._disagreed += not agreed

    def dropped(self) -> None:
        """Count one that was not computed, because the service had other work."""
        with self._lock:
            self._dropped += 1

    def failed(self) -> None:
        """Count one that could not be computed."""
        with self._lock:
            self._failed += 1

    def status(self, version: int) -> ShadowStatus:
        """The counts so far."""
        with self._lock:
            return ShadowStatus(
                version=version,
                agreed=self._agreed,
                disagreed=self._disagreed,
                dropped=self._dropped,
                failed=self._failed,
            )
