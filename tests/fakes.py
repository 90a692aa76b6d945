"""Fake runtimes and models, so that the code above the runtimes is tested without loading a framework.

`FakeRuntime` loads the versions of the clone instantly, and they return their published answers. The real runtimes are
tested in `tests/cifar10_serving/runtimes` and end to end.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from cifar10_serving.artifacts.layout import published_versions, read_metadata, version_folder
from cifar10_serving.artifacts.metadata import SAVED_MODEL_FILE, Precision, RuntimeName
from cifar10_serving.errors import ModelLoadError
from cifar10_serving.runtimes.base import Images, Probabilities
from cifar10_serving.runtimes.golden import read_golden
from tests.waiting import PATIENCE_S

CLONE: Final = Path(__file__).resolve().parent.parent / "models"


class FakeModel(ABC):
    """A `cifar10_serving.runtimes.base.LoadedModel` whose `predict` a test defines."""

    precision: Precision = "float32"
    image_s: float | None = None
    parallel_calls = 1
    warm_up_rows: tuple[int, ...] = (1,)

    @abstractmethod
    def predict(self, images: Images) -> Probabilities: ...

    def predict_alone(self, images: Images) -> Probabilities:
        return self.predict(images)


class PublishedModel(FakeModel):
    """Returns the published answers for golden images, and answers that depend on the pixels for others.

    Args:
        folder: the folder of a version of the clone.
        may_compute: every call waits for it.
    """

    def __init__(self, folder: Path, may_compute: threading.Event) -> None:
        golden = read_golden(folder / "golden.npz")
        self._answers = dict(zip(map(bytes, golden.images), golden.probabilities, strict=True))
        seed = [*f"{folder.parent.name}/{folder.name}".encode()]
        shape = (golden.images[0].size, golden.probabilities.shape[1])
        self._weights = np.random.default_rng(seed).integers(-8, 8, shape)
        self._may_compute = may_compute

    def predict(self, images: Images) -> Probabilities:
        assert self._may_compute.wait(PATIENCE_S)
        return np.stack([self._answer(image) for image in images])

    def _answer(self, image: Images) -> Probabilities:
        published: Probabilities | None = self._answers.get(bytes(image))
        if published is not None:
            return published
        logits = (image.ravel().astype(np.int64) - 128) @ self._weights / 10_000
        exponentials = np.exp(logits - logits.max())
        return np.asarray(exponentials / exponentials.sum(), np.float32)


class FakeRuntime:
    """A `cifar10_serving.runtimes.base.Runtime` that knows the clone's versions, and copies of them anywhere.

    While `may_compute` is cleared, calls of its models block; while `may_load` is cleared, loads do.

    Args:
        image_s: the time per image in each precision that the device computes.
        is_measured: an earlier load has measured these times.
    """

    name: RuntimeName = "openvino"
    version = "1.0.fake"
    device = "cpu"
    precision: Precision = "float32"

    def __init__(self, image_s: Mapping[Precision, float] | None = None, *, is_measured: bool = False) -> None:
        self._image_s = image_s or {"float32": 0.001}
        self._is_measured = is_measured
        self.precisions: tuple[Precision, ...] = tuple(self._image_s)
        self.loads: list[Precision] = []
        self.may_compute, self.may_load = threading.Event(), threading.Event()
        self.may_compute.set()
        self.may_load.set()

    def measured_image_s(self, folder: Path, precision: Precision) -> float | None:  # noqa: ARG002
        return self._image_s[precision] if self._is_measured else None

    def load(self, folder: Path, precision: Precision | None = None) -> PublishedModel:
        """Load a version whose model file is that of a version of the clone."""
        assert self.may_load.wait(PATIENCE_S)
        original = _originals().get(_digest(folder))
        if original is None:
            raise ModelLoadError(f"{folder} holds no model of the clone", remedy="publish a copy of one")
        model = PublishedModel(original, self.may_compute)
        model.precision = precision or self.precision
        model.image_s = self._image_s[model.precision]
        self.loads.append(model.precision)
        return model


@cache
def _originals() -> dict[str, Path]:
    """Return the clone's versions by the digest of their model file."""
    folders = (
        version_folder(CLONE, model.name, version)
        for model in CLONE.iterdir()
        for version in published_versions(CLONE, model.name)
    )
    return {_digest(folder): folder for folder in folders}


def _digest(folder: Path) -> str:
    """Return the digest in a version's metadata, which is verified before a runtime loads the version."""
    return read_metadata(folder).files[SAVED_MODEL_FILE].sha256
