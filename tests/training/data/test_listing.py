from pathlib import Path

import pytest

from tests.training.photos import write_photos
from training.data.listing import list_pictures
from training.errors import DatasetError


def test_class_folders_give_the_labels_and_hidden_files_are_skipped(tmp_path: Path) -> None:
    write_photos(tmp_path, {"rose": 2, "moss": 1})
    (tmp_path / "rose/deeper").mkdir()
    (tmp_path / "rose/000.png").rename(tmp_path / "rose/deeper/000.png")
    (tmp_path / "rose/.DS_Store").write_text("")
    (tmp_path / "moss/Thumbs.db").write_text("")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    listing = list_pictures(tmp_path)
    assert (listing.kind, listing.labels, listing.has_test_part) == ("class folders", ("moss", "rose"), False)
    assert [file.name for file in listing.files] == ["moss/000.png", "rose/001.png", "rose/deeper/000.png"]


def test_train_and_test_folders_say_what_tests(tmp_path: Path) -> None:
    write_photos(tmp_path / "train", {"rose": 2, "moss": 2})
    write_photos(tmp_path / "test", {"rose": 1})
    listing = list_pictures(tmp_path)
    assert (listing.kind, listing.labels, listing.has_test_part) == ("train and test folders", ("moss", "rose"), True)
    assert [file.name for file in listing.files if file.part == "test"] == ["test/rose/000.png"]


def test_classes_may_be_called_train_and_test(tmp_path: Path) -> None:
    write_photos(tmp_path, {"rose": 1, "moss": 1})
    (tmp_path / "rose").rename(tmp_path / "train")
    (tmp_path / "moss").rename(tmp_path / "test")
    listing = list_pictures(tmp_path)
    assert (listing.labels, listing.has_test_part) == (("test", "train"), False)


def test_csv_names_files_relative_to_itself(tmp_path: Path) -> None:
    write_photos(tmp_path / "all", {"rose": 2})
    (tmp_path / "list.csv").write_text("\ufefffile,label\nall/rose/000.png,red rose\n\n all/rose/001.png , white\n")
    listing = list_pictures(tmp_path / "list.csv")
    assert (listing.kind, listing.root, listing.labels) == ("CSV file", tmp_path, ("red rose", "white"))
    assert sorted(file.name for file in listing.files) == ["all/rose/000.png", "all/rose/001.png"]


def test_thinned_keeps_some_of_each_class(tmp_path: Path) -> None:
    write_photos(tmp_path, {"rose": 9, "moss": 3})
    counts = [file.label for file in list_pictures(tmp_path).thinned(8).files]
    assert (counts.count("rose"), counts.count("moss")) == (4, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("path,class\na,b\n", "the first line of .* is path,class.*Expected: file,label"),
        ("", "the first line of .* is empty"),
        ("file,label\nonly-one-cell\n", "line 2 of .* is not a file and a label"),
        ("file,label\na.png,\n", "line 2 of .* is not a file and a label"),
        ("file,label\na.png,rose\n", "one class with pictures, rose"),
        ("file,label\na.png,rose\nb.png,a\u0007b\n", r"the label 'a\\x07b'.*can't be published"),
        (b"\xff\xd8\xff\xe0picture", "is not a CSV file"),
    ],
)
def test_file_that_is_no_list_of_pictures_is_a_clear_error(tmp_path: Path, content: str | bytes, reason: str) -> None:
    file = tmp_path / "list.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DatasetError, match=reason):
        list_pictures(file)


def test_place_without_class_folders_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no folder .*absent"):
        list_pictures(tmp_path / "absent")
    with pytest.raises(DatasetError, match="has nothing in it"):
        list_pictures(tmp_path)
    write_photos(tmp_path, {"rose": 3})
    with pytest.raises(DatasetError, match=r"one class with pictures, rose\. Expected: 2 to"):
        list_pictures(tmp_path)
    with pytest.raises(DatasetError, match="has 3 files and no folders in it"):
        list_pictures(tmp_path / "rose")
    (tmp_path / "rose/000.png").rename(tmp_path / "one.png")
    with pytest.raises(DatasetError, match=r"one\.png is not a CSV file"):
        list_pictures(tmp_path / "one.png")
