"""What many tests share: the published models, the shipped test images, and small stand-ins for CIFAR-10."""

import atexit
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image

from cifar10_serving.artifacts.labels import MODEL_NAMES, SMALL_CNNS
from cifar10_serving.artifacts.layout import published_versions, version_folder
from cifar10_serving.runtimes.golden import read_golden
from service.app import create_app
from service.settings import Settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs so, and processes that the tests start and interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
SMALL_MODELS = Path(tempfile.mkdtemp(prefix="small-models-"))
"""A models folder with the small CNNs alone, for servers to which it doesn't matter: the others load longer."""
atexit.register(shutil.rmtree, SMALL_MODELS, ignore_errors=True)
for small_cnn in SMALL_CNNS:
    (SMALL_MODELS / small_cnn).symlink_to(MODELS / small_cnn)
COMPILED_MODELS = Path(tempfile.mkdtemp(prefix="compiled-models-"))
"""Where every server of these tests keeps what it compiled; never the user's own folder."""
atexit.register(shutil.rmtree, COMPILED_MODELS, ignore_errors=True)
os.environ["CIFAR10_COMPILED_MODELS"] = str(COMPILED_MODELS)
LOAD_TIMEOUT_S = 60
PUBLISHED = tuple(name for name in MODEL_NAMES if published_versions(MODELS, name))


@dataclass(frozen=True)
class SampleImage:
    """A shipped image of the test set."""

    file: Path

    @property
    def test_index(self) -> int:
        return int(self.file.stem.partition("_")[2])

    @property
    def pixels(self) -> NDArray[np.uint8]:
        with Image.open(self.file) as image:
            return np.asarray(image)


SAMPLES = [SampleImage(file) for file in sorted((ROOT / "tests/images").glob("*.png"))]


def newest_version(model: str) -> int:
    """The version that answers where none is asked for."""
    return published_versions(MODELS, model)[-1]


def golden_class(model: str, sample: SampleImage, version: int | None = None) -> int:
    """The class that a published version, the newest by default, gave this image when it was published."""
    version = version or newest_version(model)
    golden = read_golden(version_folder(MODELS, model, version) / "golden.npz")
    return int(golden.probabilities[sample.test_index].argmax())


@pytest.fixture
def one_model(tmp_path: Path) -> Path:
    """A models folder with a copy of sequential version 1, to be broken at will."""
    folder = tmp_path / "models"
    shutil.copytree(version_folder(MODELS, "sequential", 1), version_folder(folder, "sequential", 1))
    return folder


@pytest.fixture(scope="session")
def client() -> Iterator[TestClient]:
    """The real application on the models of the clone, loaded and ready."""
    with ready_client(Settings(models=MODELS)) as ready:
        yield ready


def ready_client(settings: Settings) -> TestClient:
    """A client of a new application; used as a context manager it starts and stops the application."""
    return _LoadedClient(create_app(settings))


class _LoadedClient(TestClient):
    def __enter__(self) -> Self:
        super().__enter__()
        deadline_s = time.monotonic() + LOAD_TIMEOUT_S
        while self.get("/readyz").json()["reason"] == "models are being loaded":
            assert time.monotonic() < deadline_s, f"models were not loaded within {LOAD_TIMEOUT_S} s"
            time.sleep(0.01)
        return self


def every_published_version() -> list[tuple[str, int]]:
    """Name and version of all that the clone holds."""
    return [(name, version) for name in PUBLISHED for version in published_versions(MODELS, name)]
