"""What each version has been asked and has computed since the process started, as counts and summed durations.

Kept from the observation of each request and from each batch, like `service.metrics`, but in the exact sums that
Triton's statistics extension tells (`service.api.open_inference.statistics`); this process alone.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from service.core.observation import Observation


@dataclass(slots=True)
class Duration:
    """How often, and how long altogether."""

    count: int = 0
    total_s: float = 0.0

    def add(self, duration_s: float) -> None:
        """Once more."""
        self.count += 1
        self.total_s += duration_s


@dataclass(slots=True)
class VersionStatistics:
    """Of one version.

    `success` and `fail` are of requests, from their head to their answer; `decode`, `queue` and `compute` of those that
    got that far. `cached` answers came from the cache. `batches` are by how many images each had.
    """

    last_inference_s: float = 0.0
    """Seconds since the epoch; 0: never asked."""
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    decode: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute: Duration = field(default_factory=Duration)
    cached: int = 0
    batches: defaultdict[int, Duration] = field(default_factory=lambda: defaultdict(Duration))

    @property
    def rows(self) -> int:
        """Images that were computed."""
        return sum(rows * batch.count for rows, batch in self.batches.items())

    @property
    def executions(self) -> int:
        """Batches that were computed."""
        return sum(batch.count for batch in self.batches.values())


class ModelStatistics:
    """Counts by version. Used from one thread, the event loop's.

    Args:
        clock: gives seconds since the epoch.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._versions: defaultdict[tuple[str, int], VersionStatistics] = defaultdict(VersionStatistics)

    def of(self, model: str, version: int) -> VersionStatistics:
        """What is known of a version; zeros where it was never asked."""
        return self._versions.get((model, version)) or VersionStatistics()

    def request_ended(self, observation: Observation) -> None:
        """Count a request for predictions that reached a version."""
        if not observation.is_inference or observation.model is None or observation.version is None:
            return
        known = self._versions[observation.model, observation.version]
        known.last_inference_s = self._clock()
        (known.success if observation.error is None else known.fail).add(observation.total_s)
        if observation.from_cache:
            known.cached += 1
        if observation.decode_s is not None:
            known.decode.add(observation.decode_s)
        if observation.computed is not None:
            known.queue.add(observation.computed.queue_s)
            known.compute.add(observation.computed.compute_s)

    def requests_refused(self, model: str, version: int, requests: int) -> None:
        """Count requests for predictions of a version that were refused unparsed."""
        self._versions[model, version].fail.count += requests

    def batch_computed(self, model: str, version: int, rows: int, compute_s: float) -> None:
        """Count a batch."""
        self._versions[model, version].batches[rows].add(compute_s)
