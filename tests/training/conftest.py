"""Small stand-ins for CIFAR-10: the real test images that every published version contains, and invented records."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import numpy as np
import pytest
from numpy.typing import NDArray

from cifar10_serving.artifacts.layout import version_folder
from cifar10_serving.runtimes.golden import read_golden
from tests.conftest import MODELS
from training.data import Dataset, Split, cifar10_dataset
from training.data import cifar10 as loader

RECORDS = 20
PLOT_NAMES = ("learning_curves", "confusion_matrix", "sample_predictions")


@pytest.fixture(scope="session")
def golden_split() -> Split:
    """Return 64 real images of the test set."""
    return golden_images()


def golden_images() -> Split:
    """Return the golden images of sequential version 1 as a split."""
    golden = read_golden(version_folder(MODELS, "sequential", 1) / "golden.npz")
    return Split(golden.images, golden.labels)


@pytest.fixture(scope="session")
def small_cifar10() -> Dataset:
    """Return a data set of those 64 images, twice for training and once for testing."""
    return golden_dataset()


def golden_dataset() -> Dataset:
    """Return a data set of the golden images, twice for training and once for testing."""
    split = golden_images()
    return cifar10_dataset(split.take(np.tile(np.arange(64), 2)), split, "golden images", "0" * 64)


def on_its_test_images(data: Dataset) -> Dataset:
    """Return the data set with its test images for training, too."""
    return replace(data, train=data.test)


@pytest.fixture
def quick_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export empty plots: drawing them takes most of the time of an export. `test_fit_and_export` has real ones."""

    def write_empty_plots(folder: Path, **_: object) -> tuple[str, ...]:
        folder.mkdir()
        for name in PLOT_NAMES:
            (folder / f"{name}.svg").write_text("<svg/>")
        return PLOT_NAMES

    monkeypatch.setattr("training.publishing.write_plots", write_empty_plots)


@pytest.fixture
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing in a report's pictures, which takes most of its time. `report/test_report` has real ones."""

    def write_empty_picture(_figure: object, stream: TextIO, **_: object) -> None:
        stream.write("<svg/>")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", write_empty_picture)


@pytest.fixture
def small_records(monkeypatch: pytest.MonkeyPatch) -> dict[str, NDArray[np.uint8]]:
    """Return invented batches of 20 records each, (20, 3073) uint8, which the loader accepts as the official ones."""
    generator = np.random.default_rng(5)
    batches = {}
    for name in loader.RECORDS_SHA1:
        records = generator.integers(0, 256, (RECORDS, loader.RECORD_BYTES), dtype=np.uint8)
        records[:, 0] %= 10
        batches[name] = records
    digests = {name: hashlib.sha1(records.tobytes()).hexdigest() for name, records in batches.items()}  # noqa: S324
    monkeypatch.setattr(loader, "RECORDS_PER_BATCH", RECORDS)
    monkeypatch.setattr(loader, "RECORDS_SHA1", digests)
    return batches


@pytest.fixture
def full_data() -> Path:
    """Return the folder with the whole of CIFAR-10."""
    folder = os.environ.get("CIFAR10_DATA")
    if not folder:
        pytest.skip("NOT TESTED: set CIFAR10_DATA to a folder with the official CIFAR-10")
    return Path(folder)
