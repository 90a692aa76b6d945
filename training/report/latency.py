"""Measure a version's latency per image with the runtime that serves on a CPU: OpenVINO in float32.

Only inference is measured, without HTTP and decoding.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cifar10_serving.errors import ArtifactError, ModelLoadError
from cifar10_serving.runtimes.base import Images, LoadedModel, Runtime
from cifar10_serving.runtimes.golden import check_golden
from cifar10_serving.runtimes.selection import open_runtime
from training.report.versions import RUNTIME_TITLES, PublishedVersion

BATCHES: Final = (1, 32)
ROUNDS: Final = 5
"""Each round measures all versions, so that other load on the machine affects all of them."""
CALLS_A_ROUND: Final = 3
ROUND_DURATION_S: Final = 0.1
WARM_UP_CALLS: Final = 2


@dataclass(frozen=True)
class Latency:
    """Milliseconds per image at a batch size: median and quartiles over all calls."""

    batch: int
    median_ms: float
    lower_quartile_ms: float
    upper_quartile_ms: float


@dataclass(frozen=True)
class MeasuredLatencies:
    """Version key -> one entry for each of `BATCHES`, or the reason why it failed; and the runtime."""

    runtime: str
    by_version: dict[str, tuple[Latency, ...]]
    failures: dict[str, str]


def measure_latencies(versions: Sequence[PublishedVersion]) -> MeasuredLatencies:
    """Measure each version that passes its golden check.

    Raises:
        RuntimeUnavailableError: OpenVINO isn't installed.
    """
    runtime = open_runtime("openvino", "cpu", "float32")
    models: dict[str, LoadedModel] = {}
    failures: dict[str, str] = {}
    for version in versions:
        try:
            models[version.key] = _load(runtime, version)
        except (ArtifactError, ModelLoadError) as error:
            failures[version.key] = error.problem
    durations_s: dict[tuple[str, int], list[float]] = {(key, batch): [] for key in models for batch in BATCHES}
    images = {version.key: version.golden.images for version in versions}
    for _ in range(ROUNDS):
        for key, batch in durations_s:
            durations_s[key, batch] += _timed_calls(models[key], _batch(images[key], batch))
    by_version = {key: tuple(_summary(durations_s[key, batch], batch) for batch in BATCHES) for key in models}
    return MeasuredLatencies(f"{RUNTIME_TITLES[runtime.name]} {runtime.version}", by_version, failures)


def _load(runtime: Runtime, version: PublishedVersion) -> LoadedModel:
    model = runtime.load(version.folder)
    check_golden(model, version.folder, version.metadata, runtime.precision)
    return model


def _batch(images: Images, size: int) -> Images:
    return np.resize(images, (size, *images.shape[1:]))


def _timed_calls(model: LoadedModel, images: Images) -> list[float]:
    for _ in range(WARM_UP_CALLS):
        model.predict(images)
    durations_s: list[float] = []
    while len(durations_s) < CALLS_A_ROUND or sum(durations_s) < ROUND_DURATION_S:
        start_s = time.perf_counter()
        model.predict(images)
        durations_s.append(time.perf_counter() - start_s)
    return durations_s


def _summary(durations_s: list[float], batch: int) -> Latency:
    lower, median, upper = np.quantile(durations_s, (0.25, 0.5, 0.75)) * 1000 / batch
    return Latency(batch, float(median), float(lower), float(upper))
