"""Load CIFAR-10 as arrays, from a local folder in either official version or through Keras, and verify it."""

import hashlib
import pickle
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cifar10_serving.runtimes.base import Images
from training.cifar10 import CLASS_COUNT, CLASS_NAMES, DATASET_NAME, IMAGE_SHAPE
from training.data.dataset import Dataset, Dimensions, Split
from training.errors import DatasetError

CIFAR_DIMENSIONS: Final = Dimensions(IMAGE_SHAPE, CLASS_COUNT)
RECORDS_PER_BATCH: Final = 10_000
PIXELS_PER_IMAGE: Final = 32 * 32 * 3
RECORD_BYTES: Final = 1 + PIXELS_PER_IMAGE
TEST_BATCH: Final = "test_batch"
RECORDS_SHA1: Final = {
    "data_batch_1": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "data_batch_2": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "data_batch_3": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "data_batch_4": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "data_batch_5": "26e2849e66a845b7f1e4614ae70f4889ae604628",
    TEST_BATCH: "67eb016db431130d61cd03c7ad570b013799c88c",
}
"""SHA-1 of the official binary version's files, in order. The python version holds the same records."""


def cifar10_dataset(train: Split, test: Split, source: str, sha256: str) -> Dataset:
    """Return splits with the labels of CIFAR-10 as a data set."""
    return Dataset(DATASET_NAME, CLASS_NAMES, train, test, source, sha256)


def load_cifar10(folder: Path | None) -> Dataset:
    """Load CIFAR-10 from a folder, or through Keras, which downloads and caches the official archive.

    Args:
        folder: holds the official binary version (`data_batch_1.bin`, …) or python version (`data_batch_1`, …),
            directly or in the folder that the archive unpacks to. None: `keras.datasets.cifar10`.

    Raises:
        DatasetError: a file is missing, truncated or not CIFAR-10, or Keras failed.
    """
    if folder is None:
        return _from_keras()
    if not folder.is_dir():
        raise DatasetError(
            f"no folder {folder}",
            expected="a folder with the official binary or python version of CIFAR-10",
            remedy="unpack the official archive and pass its folder with --data",
        )
    for place in _places(folder):
        if (place / "data_batch_1.bin").exists():
            files = {name: place / f"{name}.bin" for name in RECORDS_SHA1}
            return _assemble({name: _read_binary(file) for name, file in files.items()}, files, "binary version")
        if (place / "data_batch_1").exists():
            files = {name: place / name for name in RECORDS_SHA1}
            return _assemble({name: _read_python(file) for name, file in files.items()}, files, "python version")
    raise DatasetError(
        f"no CIFAR-10 in {folder}: neither data_batch_1.bin nor data_batch_1 exists",
        expected="data_batch_1 to data_batch_5 and test_batch, of the official binary or python version",
        remedy="unpack the official archive and pass its folder with --data",
    )


def is_cifar10(folder: Path) -> bool:
    """Return whether a folder has the first file of one of the official versions."""
    return any((place / name).exists() for place in _places(folder) for name in ("data_batch_1.bin", "data_batch_1"))


def _places(folder: Path) -> tuple[Path, ...]:
    return folder, folder / "cifar-10-batches-bin", folder / "cifar-10-batches-py"


def _read_binary(file: Path) -> NDArray[np.uint8]:
    content = _read(file)
    wanted_bytes = RECORDS_PER_BATCH * RECORD_BYTES
    if len(content) != wanted_bytes:
        raise DatasetError(
            f"{file} has {len(content):,} bytes",
            expected=f"{wanted_bytes:,} bytes (10,000 records of 3,073)",
            remedy="the file is truncated or not CIFAR-10: unpack the official archive again",
        )
    return np.frombuffer(content, np.uint8).reshape(RECORDS_PER_BATCH, RECORD_BYTES)


class _BatchUnpickler(pickle.Unpickler):
    """Unpickler that builds numpy arrays and plain containers, and nothing that could run code."""

    ALLOWED: Final = {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    }

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module_name}.{global_name} is not allowed in a CIFAR-10 batch")
        if global_name == "_reconstruct":
            module_name = "numpy._core.multiarray"
        return super().find_class(module_name, global_name)


def _read_python(file: Path) -> NDArray[np.uint8]:
    content = _read(file)
    try:
        batch = _BatchUnpickler(BytesIO(content), encoding="bytes").load()
        labels = np.asarray(batch[b"labels"], np.uint8)
        pixels = np.asarray(batch[b"data"], np.uint8).reshape(RECORDS_PER_BATCH, PIXELS_PER_IMAGE)
        return np.concatenate([labels[:, None], pixels], axis=1)
    except Exception as error:  # noqa: BLE001  # a damaged pickle can raise anything
        raise DatasetError(
            f"{file} is not a batch of the python version: {error}",
            expected="the pickled dictionary of the official archive",
            remedy="the file is truncated or not CIFAR-10: unpack the official archive again",
        ) from None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DatasetError(
            f"{file} can't be read: {error.strerror}",
            expected="data_batch_1 to data_batch_5 and test_batch, all in one folder",
            remedy="unpack the official archive again",
        ) from None


def _from_keras() -> Dataset:
    import keras

    try:
        (train_images, train_labels), (test_images, test_labels) = keras.datasets.cifar10.load_data()
    except Exception as error:  # noqa: BLE001  # Keras raises a bare Exception when the download fails
        raise DatasetError(
            f"keras.datasets.cifar10 could not load the data: {error}",
            expected="network access to the official archive, or Keras' cached copy of it",
            remedy="pass a folder with the official files: --data FOLDER",
        ) from None
    records = np.concatenate(
        [_to_records(train_images, train_labels), _to_records(test_images, test_labels)], dtype=np.uint8
    )
    parts = records.reshape(len(RECORDS_SHA1), RECORDS_PER_BATCH, RECORD_BYTES)
    names = {name: Path("keras.datasets.cifar10") / name for name in RECORDS_SHA1}
    return _assemble(dict(zip(RECORDS_SHA1, parts, strict=True)), names, "keras.datasets.cifar10")


def _to_records(images: Images, labels: NDArray[Any]) -> NDArray[np.uint8]:
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), PIXELS_PER_IMAGE)
    return np.concatenate([labels.reshape(-1, 1).astype(np.uint8), planes], axis=1)


def _assemble(batches: dict[str, NDArray[np.uint8]], files: dict[str, Path], source: str) -> Dataset:
    fingerprint = hashlib.sha256()
    for name, records in batches.items():
        content = records.tobytes()
        if hashlib.sha1(content, usedforsecurity=False).hexdigest() != RECORDS_SHA1[name]:
            raise DatasetError(
                f"{files[name]} is not CIFAR-10's {name}",
                expected=f"records with SHA-1 {RECORDS_SHA1[name]}",
                remedy="the file was modified or belongs to another data set: unpack the official archive again",
            )
        fingerprint.update(content)
    train = np.concatenate([records for name, records in batches.items() if name != TEST_BATCH])
    return cifar10_dataset(_to_split(train), _to_split(batches[TEST_BATCH]), source, fingerprint.hexdigest())


def _to_split(records: NDArray[np.uint8]) -> Split:
    labels = records[:, 0].astype(np.int64)
    if labels.max() >= CLASS_COUNT:
        raise DatasetError(f"label {labels.max()}", expected="labels 0 to 9")
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Split(np.ascontiguousarray(images), labels)
