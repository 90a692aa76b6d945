"""List labelled picture files, of class folders, `train/` and `test/` with class folders, or a CSV file.

No picture is opened. The labels are the folders' names or the CSV's second column, sorted. Hidden files and the files
that operating systems leave in folders of pictures are skipped.
"""

import csv
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from pydantic import TypeAdapter, ValidationError

from cifar10_serving.artifacts.metadata import MAX_CLASSES, MIN_CLASSES
from cifar10_serving.artifacts.metadata import Label as LabelName
from training.errors import DatasetError

TRAIN: Final = "train"
TEST: Final = "test"
SPLIT_FOLDERS: Final = {TRAIN, TEST}
LEFT_BY_SYSTEMS: Final = {"thumbs.db", "desktop.ini"}
CSV_COLUMNS: Final = ["file", "label"]
LAYOUTS: Final = (
    "a folder with one folder of pictures for each class, a folder with such folders in train/ and test/, or a CSV "
    "file with the columns file and label"
)
LABEL: Final = TypeAdapter(LabelName)

Part = Literal["train", "test", "all"]


@dataclass(frozen=True, order=True)
class PictureFile:
    """A file with its label; `part` says whether its place makes it a training or a test picture."""

    part: Part
    label: str
    name: str
    """Path relative to the place that was listed."""


@dataclass(frozen=True)
class Listing:
    """The picture files of a place, sorted; `labels` has each label once, sorted."""

    root: Path
    kind: str
    labels: tuple[str, ...]
    files: list[PictureFile]

    def thinned(self, files: int) -> "Listing":
        """Return the first files of each part and class, about this many in total, and at least two of each."""
        groups: dict[tuple[Part, str], list[PictureFile]] = {}
        for file in self.files:
            groups.setdefault((file.part, file.label), []).append(file)
        most = max(2, files // len(groups))
        return replace(self, files=[file for group in groups.values() for file in group[:most]])

    @property
    def has_test_part(self) -> bool:
        """True if the place itself says which pictures are for testing."""
        return any(file.part == TEST for file in self.files)


def list_pictures(place: Path) -> Listing:
    """List the pictures of a folder or CSV file.

    Raises:
        DatasetError: there are none, fewer than two classes, or a label that can't be published.
    """
    try:
        if place.is_dir():
            listing = _folder(place)
        elif place.is_file():
            listing = _csv(place)
        else:
            raise DatasetError(f"no folder {place}", expected=LAYOUTS, remedy="check the path after --data")
    except OSError as error:
        raise DatasetError(f"{error.filename or place} can't be read: {error.strerror}", expected=LAYOUTS) from None
    _check_labels(listing, place)
    return listing


def _folder(place: Path) -> Listing:
    folders = _folders(place)
    parts = {folder.name: _folders(folder) for folder in folders if folder.name in SPLIT_FOLDERS}
    if {folder.name for folder in folders} == SPLIT_FOLDERS and all(parts.values()):
        files = [
            *_of_classes(place, parts[TRAIN], TRAIN),
            *_of_classes(place, parts[TEST], TEST),
        ]
        return _listing(place, "train and test folders", files)
    if not folders:
        pictures = sum(1 for _ in _files(place))
        found = f"{pictures:,} files and no folders" if pictures else "nothing"
        raise DatasetError(f"{place} has {found} in it", expected=LAYOUTS)
    return _listing(place, "class folders", _of_classes(place, folders, "all"))


def _folders(place: Path) -> list[Path]:
    return sorted(entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _of_classes(root: Path, folders: Iterable[Path], part: Part) -> list[PictureFile]:
    return [
        PictureFile(part, folder.name, file.relative_to(root).as_posix())
        for folder in folders
        for file in _files(folder)
    ]


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name.lower() not in LEFT_BY_SYSTEMS:
                yield Path(parent, name)


def _csv(file: Path) -> Listing:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.reader(stream)
            header = [cell.strip().lower() for cell in next(rows, [])]
            if header != CSV_COLUMNS:
                raise DatasetError(
                    f"the first line of {file} is {','.join(header) or 'empty'}",
                    expected="file,label and then one line for each picture, with paths relative to the CSV file; or "
                    + LAYOUTS,
                )
            files = [_csv_row(file, rows.line_num, row) for row in rows if row]
    except (UnicodeDecodeError, csv.Error):
        raise DatasetError(f"{file} is not a CSV file", expected=LAYOUTS) from None
    return _listing(file.parent, "CSV file", files)


def _csv_row(file: Path, line: int, row: list[str]) -> PictureFile:
    match [cell.strip() for cell in row]:
        case [name, label] if name and label:
            return PictureFile("all", label, name)
    raise DatasetError(f"line {line} of {file} is not a file and a label", expected="file,label")


def _listing(root: Path, kind: str, files: list[PictureFile]) -> Listing:
    return Listing(root, kind, tuple(sorted({file.label for file in files})), sorted(set(files)))


def _check_labels(listing: Listing, place: Path) -> None:
    count = len(listing.labels)
    if not MIN_CLASSES <= count <= MAX_CLASSES:
        found = f"one class with pictures, {listing.labels[0]}" if count == 1 else f"{count:,} classes with pictures"
        raise DatasetError(f"{place} has {found}", expected=f"{MIN_CLASSES} to {MAX_CLASSES:,} classes: {LAYOUTS}")
    for label in listing.labels:
        try:
            LABEL.validate_python(label)
        except ValidationError as error:
            raise DatasetError(
                f"the label {label!r} of {place} can't be published: {error.errors()[0]['msg']}",
                expected="printable text of 1 to 200 characters without blanks around it",
                remedy="rename the folder",
            ) from None
