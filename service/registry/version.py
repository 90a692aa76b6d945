"""One published version with its state; leases keep it loaded while requests use it.

`service.registry.loading` loads it; `service.registry.routing` decides which version answers.
"""

import logging
import math
import threading
from hashlib import sha256
from pathlib import Path

from cifar10_serving.artifacts.metadata import InputShape, ModelMetadata, Precision
from cifar10_serving.runtimes.base import LoadedModel
from cifar10_serving.schemas import ShadowStatus, VersionState

logger = logging.getLogger(__name__)

FileSignature = tuple[tuple[str, int, int], ...]
"""Path, modification time in ns and size in bytes of every file of a version. Inodes are not included: on some network
volumes they change by themselves."""


class ModelVersion:
    """A version with the files that its folder had at one time; other files make another `ModelVersion`.

    `model` is set while the version is loaded, `precision` from its first load on. `row_s` is the time for one
    image, 0 if it was not measured. `may_recover` is true if the version failed because something hung. States
    change only in the loading thread. `labels`, `label_set`, `label_digest` (the same for equal sets), `input_shape`
    (height, width, channels) and `image_bytes` (size of an image's pixels) are from the metadata.

    Args:
        signature: the signatures of its files.
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
        self.label_set: frozenset[str] = frozenset()
        self.label_digest = ""
        self.input_shape: InputShape = (0, 0, 0)
        self.image_bytes = 0
        self._metadata: ModelMetadata | None = None
        self.model: LoadedModel | None = None
        self.precision: Precision | None = None
        self.row_s = 0.0
        self.load_time_ms: float | None = None
        self.comparison = ShadowComparison()
        self._leases = 0
        self._retired = False
        self._lock = threading.Lock()
        self._unused = threading.Condition(self._lock)

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"

    def fail(self, reason: str) -> None:
        """Mark it as failed, and log why."""
        self.reason, self.state = reason, VersionState.FAILED
        logger.error("%s can't serve: %s", self, reason)

    @property
    def metadata(self) -> ModelMetadata | None:
        """Its published metadata; None until it was read."""
        return self._metadata

    @metadata.setter
    def metadata(self, metadata: ModelMetadata | None) -> None:
        self._metadata = metadata
        if metadata is not None:
            self.labels, self.input_shape = tuple(metadata.labels), metadata.input_shape
            self.label_set = frozenset(self.labels)
            self.label_digest = sha256("\n".join(sorted(self.labels)).encode()).hexdigest()[:16]
            self.image_bytes = math.prod(self.input_shape)

    def acquire(self) -> bool:
        """Take a lease, which keeps the version loaded until `release`; False if it is being unloaded. Thread-safe."""
        with self._lock:
            if not self._retired:
                self._leases += 1
            return not self._retired

    def release(self) -> None:
        """Return a lease; thread-safe."""
        with self._lock:
            self._leases -= 1
            if self._retired:
                self._unused.notify_all()

    def retire(self) -> None:
        """Give no more leases."""
        with self._lock:
            self._retired = True

    def wait_until_unused(self, timeout_s: float) -> bool:
        """Wait for the leases to end; return whether they did."""
        with self._unused:
            return self._unused.wait_for(lambda: self._leases == 0, timeout_s)


class ShadowComparison:
    """Counts how often a shadow's class matched the answer; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._agreed = self._disagreed = self._dropped = self._failed = 0

    def compared(self, *, agreed: bool) -> None:
        """Count one comparison."""
        with self._lock:
            self._agreed += agreed
            self._disagreed += not agreed

    def dropped(self) -> None:
        """Count an image that was not computed, because the service was busy."""
        with self._lock:
            self._dropped += 1

    def failed(self) -> None:
        """Count an image that could not be computed."""
        with self._lock:
            self._failed += 1

    def status(self, version: int) -> ShadowStatus:
        """Return the counts so far."""
        with self._lock:
            return ShadowStatus(
                version=version,
                agreed=self._agreed,
                disagreed=self._disagreed,
                dropped=self._dropped,
                failed=self._failed,
            )
