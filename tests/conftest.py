"""Shared fixtures: the published models, the shipped test images, and small stand-ins for CIFAR-10."""

import atexit
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

import certifi
import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image

from cifar10_serving.artifacts.layout import published_versions, read_metadata, version_folder
from cifar10_serving.runtimes.base import Runtime
from cifar10_serving.runtimes.golden import read_golden
from service.app import create_app
from service.settings import Settings
from tests.fakes import FakeRuntime
from training.cifar10 import SMALL_CNNS

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs so, and processes that the tests start and interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
SHARED = "TESTS_SHARED_FOLDER"
"""The variable with the shared folder, for pytest-xdist's worker processes."""
if SHARED not in os.environ:
    os.environ[SHARED] = tempfile.mkdtemp(prefix="tests-")
    atexit.register(shutil.rmtree, os.environ[SHARED], ignore_errors=True)
    Path(os.environ[SHARED], "small-models").mkdir()
    for small_cnn in SMALL_CNNS:
        Path(os.environ[SHARED], "small-models", small_cnn).symlink_to(MODELS / small_cnn)
    Path(os.environ[SHARED], "one.pem").write_text("".join(certifi.contents().partition("END CERTIFICATE-----\n")[:2]))
SMALL_MODELS = Path(os.environ[SHARED], "small-models")
"""A models folder with only the small CNNs, for servers that don't need the others, which take longer to load."""
COMPILED_MODELS = Path(os.environ[SHARED], "compiled-models")
"""The folder where every server of a test run caches compiled models, instead of the user's."""
os.environ["CIFAR10_COMPILED_MODELS"] = str(COMPILED_MODELS)
os.environ["SSL_CERT_FILE"] = str(Path(os.environ[SHARED], "one.pem"))
"""Every new HTTP client reads it; loading all authorities takes 50 ms, and no test needs them."""
LOAD_TIMEOUT_S = 60


def _first_published(model: str) -> datetime:
    return read_metadata(version_folder(MODELS, model, published_versions(MODELS, model)[0])).published_at


PUBLISHED = tuple(
    sorted(
        (folder.name for folder in MODELS.iterdir() if published_versions(MODELS, folder.name)), key=_first_published
    )
)
"""The models of the clone, in the order in which the service lists them."""


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
    """Return the newest version, which answers by default."""
    return published_versions(MODELS, model)[-1]


def golden_class(model: str, sample: SampleImage, version: int | None = None) -> int:
    """Return the class that a published version (by default the newest) gave this image at publishing."""
    version = version or newest_version(model)
    golden = read_golden(version_folder(MODELS, model, version) / "golden.npz")
    return int(golden.probabilities[sample.test_index].argmax())


@pytest.fixture
def anyio_backend() -> str:
    """Run tests that are coroutines on asyncio; those of the service's parts run on uvloop, too."""
    return "asyncio"


@pytest.fixture
def one_model(tmp_path: Path) -> Path:
    """Return a models folder with a copy of sequential version 1 that a test may damage."""
    folder = tmp_path / "models"
    shutil.copytree(version_folder(MODELS, "sequential", 1), version_folder(folder, "sequential", 1))
    return folder


@pytest.fixture(scope="session")
def client() -> Iterator[TestClient]:
    """Yield the application with the models of the clone, loaded and ready."""
    with ready_client(Settings(models=MODELS)) as ready:
        yield ready


def ready_client(settings: Settings, runtime: Runtime | None = None) -> TestClient:
    """Return a client of a new application; as a context manager it starts and stops the application.

    Args:
        runtime: the runtime; None for a `FakeRuntime`.
    """
    return _LoadedClient(create_app(settings, runtime=runtime or FakeRuntime()))


class _LoadedClient(TestClient):
    def __enter__(self) -> Self:
        super().__enter__()
        deadline_s = time.monotonic() + LOAD_TIMEOUT_S
        while self.get("/readyz").json()["reason"] == "models are being loaded":
            assert time.monotonic() < deadline_s, f"models were not loaded within {LOAD_TIMEOUT_S} s"
            time.sleep(0.01)
        return self


def every_published_version() -> list[tuple[str, int]]:
    """Return name and version of everything that the clone contains."""
    return [(name, version) for name in PUBLISHED for version in published_versions(MODELS, name)]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options for tests that only run when they are asked for."""
    parser.addoption("--cluster", action="store_true", help="run the tests with two machines, which take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that take long, so that the processes of a run end at about the same time."""
    if not config.getoption("cluster"):
        for item in items:
            if item.get_closest_marker("cluster") is not None:
                item.add_marker(pytest.mark.skip(reason="needs the option --cluster, root, iproute2 and Ray"))
    marks: dict[Path, set[str]] = {}
    for item in items:
        marks.setdefault(item.path, set()).update(mark.name for mark in item.iter_markers())
    items.sort(key=lambda item: ("container" not in marks[item.path], not marks[item.path] & {"slow", "browser"}))
