import pickle
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from training.data import Split, load_cifar10, split_validation
from training.errors import DatasetError

Batches = dict[str, NDArray[np.uint8]]


def write_binary(batches: Batches, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in batches.items():
        (folder / f"{name}.bin").write_bytes(records.tobytes())


def write_python(batches: Batches, folder: Path) -> None:
    """As the official archive has it: protocol 2, keys and strings as bytes, labels as a list."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in batches.items():
        content = {b"batch_label": b"batch", b"labels": records[:, 0].tolist(), b"data": records[:, 1:].copy()}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))


def test_binary_and_python_version_give_the_same_data(small_records: Batches, tmp_path: Path) -> None:
    write_binary(small_records, tmp_path / "binary")
    write_python(small_records, tmp_path / "python")
    binary, python = load_cifar10(tmp_path / "binary"), load_cifar10(tmp_path / "python")
    assert (binary.source, python.source) == ("binary version", "python version")
    assert binary.sha256 == python.sha256
    for one, other in ((binary.train, python.train), (binary.test, python.test)):
        assert np.array_equal(one.pixels, other.pixels)
        assert np.array_equal(one.labels, other.labels)


def test_records_become_images_row_by_row_in_rgb(small_records: Batches, tmp_path: Path) -> None:
    write_binary(small_records, tmp_path)
    loaded = load_cifar10(tmp_path)
    assert (len(loaded.train), len(loaded.test)) == (100, 20)
    record = small_records["data_batch_2"][3]
    assert loaded.train.labels[23] == record[0]
    red, green, blue = record[1:].reshape(3, 1024)
    assert loaded.train.images[23, 1, 2].tolist() == [red[34], green[34], blue[34]]


@pytest.mark.parametrize("inner", ["cifar-10-batches-bin", "cifar-10-batches-py"])
def test_folder_that_the_archive_unpacks_to_is_found(small_records: Batches, tmp_path: Path, inner: str) -> None:
    (write_binary if inner.endswith("bin") else write_python)(small_records, tmp_path / inner)
    assert len(load_cifar10(tmp_path).train) == 100


def test_cut_off_file_is_named(small_records: Batches, tmp_path: Path) -> None:
    write_binary(small_records, tmp_path)
    file = tmp_path / "data_batch_3.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=r"data_batch_3\.bin has 61,459 bytes.*Expected: 61,460 bytes"):
        load_cifar10(tmp_path)


@pytest.mark.parametrize("write", [write_binary, write_python])
def test_file_with_other_content_is_named(
    small_records: Batches, tmp_path: Path, write: Callable[[Batches, Path], None]
) -> None:
    changed = {name: records.copy() for name, records in small_records.items()}
    changed["test_batch"][0, 5] ^= 1
    write(changed, tmp_path)
    with pytest.raises(DatasetError, match=r"test_batch(\.bin)? is not CIFAR-10's test_batch"):
        load_cifar10(tmp_path)


def test_cut_off_pickle_is_named(small_records: Batches, tmp_path: Path) -> None:
    write_python(small_records, tmp_path)
    file = tmp_path / "data_batch_5"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DatasetError, match="data_batch_5 is not a batch of the python version"):
        load_cifar10(tmp_path)


class RunsCode:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1 / 0",)


def test_pickle_that_would_run_code_is_rejected(small_records: Batches, tmp_path: Path) -> None:
    write_python(small_records, tmp_path)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(RunsCode()))
    with pytest.raises(DatasetError, match=r"builtins\.eval is not allowed in a CIFAR-10 batch"):
        load_cifar10(tmp_path)


def test_missing_batch_is_named(small_records: Batches, tmp_path: Path) -> None:
    write_binary(small_records, tmp_path)
    (tmp_path / "data_batch_4.bin").unlink()
    with pytest.raises(DatasetError, match=r"data_batch_4\.bin can't be read"):
        load_cifar10(tmp_path)


@pytest.mark.parametrize("make", [True, False])
def test_folder_without_data_is_named(tmp_path: Path, *, make: bool) -> None:
    folder = tmp_path / "data"
    if make:
        folder.mkdir()
    with pytest.raises(DatasetError, match=r"no (CIFAR-10 in|folder) .*/data"):
        load_cifar10(folder)


def test_keras_data_goes_through_the_same_check(small_records: Batches, monkeypatch: pytest.MonkeyPatch) -> None:
    def arrays(names: list[str]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        records = np.concatenate([small_records[name] for name in names])
        return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, :1]

    *train, test = small_records
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: (arrays(train), arrays([test])))
    loaded = load_cifar10(None)
    assert loaded.source == "keras.datasets.cifar10"
    assert np.array_equal(loaded.test.labels, small_records["test_batch"][:, 0])


def test_failed_download_says_how_to_give_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise Exception("URL fetch failure")  # noqa: TRY002  # as Keras raises it

    monkeypatch.setattr(keras.datasets.cifar10, "load_data", fail)
    with pytest.raises(DatasetError, match=r"URL fetch failure.*--data FOLDER"):
        load_cifar10(None)


def test_validation_split_is_scikit_learns(golden_split: Split) -> None:
    train, validation = split_validation(golden_split, fraction=0.2, seed=83)
    expected = train_test_split(np.arange(64), test_size=0.2, random_state=83)
    assert np.array_equal(train.pixels, golden_split.images[expected[0]])
    assert np.array_equal(validation.labels, golden_split.labels[expected[1]])


def test_images_and_labels_must_belong_together(golden_split: Split) -> None:
    with pytest.raises(DatasetError, match=r"for 3 labels"):
        Split(golden_split.pixels, golden_split.labels[:3])


@pytest.mark.full_data
@pytest.mark.slow
def test_whole_of_cifar10(full_data: Path, tmp_path: Path) -> None:
    loaded = load_cifar10(full_data)
    assert (len(loaded.train), len(loaded.test)) == (50_000, 10_000)
    assert np.bincount(loaded.train.labels).tolist() == [5000] * 10
    assert np.bincount(loaded.test.labels).tolist() == [1000] * 10
    train, validation = split_validation(loaded.train, fraction=0.2, seed=83)
    assert (len(train), len(validation)) == (40_000, 10_000)
