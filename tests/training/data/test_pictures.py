"""Folders of pictures as data sets: splits, copies, files that can't be read, the cache."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.training.commands.test_fit import files_of_at_most
from tests.training.photos import write_photos
from training.data import Dataset
from training.data.pictures import load_pictures, load_test_split
from training.errors import CheckpointError, DatasetError
from training.progress import Progress

SHAPE = (16, 16, 3)


class Told(Progress):
    """Keeps the messages."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def tell(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """20 roses, 10 of moss and 5 skies."""
    write_photos(tmp_path / "photos", {"rose": 20, "moss": 10, "sky": 5})
    return tmp_path / "photos"


def load(place: Path, told: Told | None = None, **options: float) -> Dataset:
    """Load pictures of 16 pixels; the cache is beside them."""
    return load_pictures(place, input_shape=SHAPE, cache=place.parent / "cache", progress=told, **options)  # type: ignore[arg-type]


def numbers(split: Dataset) -> tuple[list[int], list[int]]:
    return np.bincount(split.train.labels).tolist(), np.bincount(split.test.labels).tolist()


def test_each_class_is_split_by_the_fraction_and_named_after_its_folder(photos: Path) -> None:
    told = Told()
    data = load(photos, told)
    assert (data.name, data.labels) == ("photos", ("moss", "rose", "sky"))
    assert numbers(data) == ([8, 16, 4], [2, 4, 1])
    assert numbers(load(photos, test_fraction=0.5)) == ([5, 10, 3], [5, 10, 2])
    assert "decoding 35 pictures to 16x16 pixels" in told.lines[0]
    assert told.lines[-1] == "warning: fewer than 10 pictures of sky (5)"
    assert data.test_split == "0.2 of each class, drawn with the seed 83"


def test_pixels_belong_to_their_labels_and_no_image_is_in_both_splits(photos: Path) -> None:
    data = load(photos)
    for split in (data.train, data.test):
        red = split.pixels[split.labels == data.labels.index("rose")].mean(axis=(0, 1, 2))
        assert red[0] > 150 > red[2]
    trained = {image.tobytes() for image in data.train.pixels}
    assert len(trained) == len(data.train)
    assert not trained & {image.tobytes() for image in data.test.pixels}


def test_seed_decides_the_split_and_the_hash_follows_the_split(photos: Path) -> None:
    first, again, other = load(photos), load(photos), load(photos, split_seed=1)
    assert first.sha256 == again.sha256 != other.sha256
    assert np.array_equal(first.test.pixels, again.test.pixels)
    assert not np.array_equal(first.test.pixels, other.test.pixels)


def test_splits_of_a_file_stay_there_and_give_the_images_at_any_indices(photos: Path) -> None:
    train = load(photos).train
    part = train.take([5, 1, 5])
    assert not isinstance(part.images, np.ndarray)
    assert np.array_equal(part.pixels, train.pixels[[5, 1, 5]])
    assert np.array_equal(part.images[1:], train.pixels[[1, 5]])
    assert np.array_equal(part.images[0], train.pixels[5])


def test_second_run_decodes_nothing_until_a_picture_changes(photos: Path) -> None:
    first = load(photos)
    told = Told()
    assert load(photos, told).sha256 == first.sha256
    assert not [line for line in told.lines if "decoding" in line]
    (photos / "rose/000.png").write_bytes((photos / "rose/001.png").read_bytes())
    assert load(photos, told).sha256 != first.sha256
    assert [line for line in told.lines if "decoding" in line]


@pytest.mark.parametrize("suffix", [".bin", ".json"])
def test_damaged_cache_is_made_again(photos: Path, suffix: str) -> None:
    pixels = load(photos).train.pixels.copy()
    (file,) = (photos.parent / "cache").glob(f"*{suffix}")
    file.write_bytes(file.read_bytes()[:-1])
    assert np.array_equal(load(photos).train.pixels, pixels)


def test_files_that_are_no_pictures_are_named_and_left_out(photos: Path) -> None:
    (photos / "rose/notes.txt").write_text("not a picture")
    (photos / "moss/000.png").write_bytes((photos / "moss/000.png").read_bytes()[:60])
    told = Told()
    data = load(photos, told)
    assert len(data.train) + len(data.test) == 34
    (line,) = [line for line in told.lines if "can't be read" in line]
    assert line.startswith("warning: files that can't be read (2): moss/000.png: ")
    assert "rose/notes.txt: not a picture in a known format" in line
    assert "34 of 36 files" in data.source


def test_copies_are_named_and_used_once(photos: Path) -> None:
    shutil.copy(photos / "rose/003.png", photos / "rose/copy.png")
    shutil.copy(photos / "rose/004.png", photos / "sky/rose.png")
    told = Told()
    assert sum(map(sum, numbers(load(photos, told)))) == 34
    assert any(line.endswith("rose/copy.png = rose/003.png") for line in told.lines)
    assert any("several labels" in line and "rose/004.png = sky/rose.png" in line for line in told.lines)


def test_test_folder_is_the_test_split_and_its_copies_do_not_train(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos/train", {"rose": 12, "moss": 12})
    write_photos(tmp_path / "photos/test", {"rose": 3, "moss": 2}, first=10)
    told = Told()
    data = load(tmp_path / "photos", told)
    assert numbers(data) == ([10, 10], [2, 3])
    assert any(
        "copies of test pictures, which don't train (4)" in line and "train/moss/010.png" in line for line in told.lines
    )
    assert data.test_split == "of the test folder"
    with pytest.raises(DatasetError, match="has test pictures of its own"):
        load(tmp_path / "photos", test_fraction=0.2)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_fraction_out_of_range_is_rejected(photos: Path, fraction: float) -> None:
    with pytest.raises(DatasetError, match="a test fraction of"):
        load(photos, test_fraction=fraction)


def test_class_without_a_picture_to_train_on_is_rejected(photos: Path) -> None:
    for file in (photos / "sky").iterdir():
        file.write_text("not a picture")
    with pytest.raises(DatasetError, match="sky has no pictures to train on"):
        load(photos)


def test_single_picture_of_a_class_trains(photos: Path) -> None:
    for file in sorted((photos / "sky").iterdir())[1:]:
        file.unlink()
    assert numbers(load(photos)) == ([8, 16, 1], [2, 4])


def test_folder_of_other_files_says_why_none_can_be_read(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "text.txt").write_text("text")
    with pytest.raises(
        DatasetError, match=r"none of the 2 files in .* can be read, such as a/text\.txt: not a picture"
    ):
        load(tmp_path / "photos")


def test_full_disk_leaves_no_cache(photos: Path) -> None:
    with files_of_at_most(10_000), pytest.raises(CheckpointError, match=r"can't write .*--checkpoints"):
        load(photos)
    assert list((photos.parent / "cache").iterdir()) == []


def test_missing_file_of_a_list_is_named(photos: Path) -> None:
    rows = [f"rose/{number:03}.png,rose\nmoss/{number:03}.png,moss" for number in range(4)]
    (photos / "list.csv").write_text("\n".join(["file,label", *rows, "absent.png,rose"]))
    told = Told()
    data = load(photos / "list.csv", told)
    assert data.name == "list"
    assert any("absent.png: No such file or directory" in line for line in told.lines)


def test_test_pictures_of_a_model_take_the_order_of_its_labels(photos: Path) -> None:
    labels = ("sky", "gravel", "rose", "moss")
    split, sha256 = load_test_split(photos, labels=labels, input_shape=SHAPE, cache=photos.parent / "cache")
    assert np.bincount(split.labels).tolist() == [5, 0, 20, 10]
    assert len(sha256) == 64
    with pytest.raises(DatasetError, match=r"has pictures of rose, sky. Expected: the model's labels: moss, gravel"):
        load_test_split(photos, labels=("moss", "gravel"), input_shape=SHAPE, cache=photos.parent / "cache")


def test_index_of_the_cache_names_each_file_once(photos: Path) -> None:
    load(photos)
    (file,) = (photos.parent / "cache").glob("*.json")
    assert len(set(json.loads(file.read_text())["sha256"])) == 35
