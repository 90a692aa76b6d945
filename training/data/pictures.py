"""Make a data set of labelled pictures: `listing` finds them, `picture_cache` decodes them, this module splits them.

Where the place has no test pictures of its own, a share of each class is drawn. No picture both trains and tests:
copies are found by the SHA-256 of their files.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cifar10_serving.artifacts.metadata import MIN_CLASSES, InputShape
from training.data.dataset import Dataset, Rows, Split
from training.data.listing import TEST, TRAIN, list_pictures
from training.data.picture_cache import DecodedPictures, decoded_pictures
from training.errors import DatasetError
from training.progress import Progress

TEST_FRACTION: Final = 0.2
SPLIT_SEED: Final = 83
FEW_PICTURES: Final = 10
"""A class with fewer is a warning."""
MAX_NAMED: Final = 10
"""Files and classes that a message names."""

Indices = NDArray[np.int64]


def load_pictures(
    place: Path,
    *,
    input_shape: InputShape,
    cache: Path,
    test_fraction: float | None = None,
    split_seed: int = SPLIT_SEED,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Return the pictures of a folder or CSV file as a data set; `training.data.listing` describes the layouts.

    Args:
        place: the folder or CSV file.
        input_shape: height, width and channels to which the pictures are decoded.
        cache: folder for the decoded pictures.
        test_fraction: share of each class to test with, if the place has no test pictures of its own; None for 0.2.
        split_seed: draws the test pictures.
        limit: approximate number of files to use, of all classes, for a trial; None for all.
        progress: is notified of the progress, of files that can't be read, of copies and of small classes.

    Raises:
        DatasetError: there are no pictures, fewer than two classes, or no pictures of a class to train on.
        CheckpointError: the cache can't be written.
    """
    progress = progress or Progress()
    listing = list_pictures(place)
    if limit is not None:
        listing = listing.thinned(limit)
    if test_fraction is not None and listing.has_test_part:
        raise DatasetError(
            f"a test fraction of {test_fraction:g} for {place}, which has test pictures of its own",
            remedy="leave out --test-fraction",
        )
    if test_fraction is not None and not 0 < test_fraction < 1:
        raise DatasetError(f"a test fraction of {test_fraction:g}", expected="a number between 0 and 1, such as 0.2")
    pictures = decoded_pictures(listing, input_shape, folder=cache, progress=progress)
    _tell_files(
        progress, "files that can't be read", [f"{file.name}: {reason}" for file, reason in pictures.unreadable]
    )
    if listing.has_test_part:
        train, test = _own_parts(pictures, progress)
        how = "of the test folder"
    else:
        fraction = test_fraction or TEST_FRACTION
        rows = _without_copies(pictures, progress)
        train, test = _draw(pictures, rows, fraction=fraction, seed=split_seed)
        how = f"{fraction:g} of each class, drawn with the seed {split_seed}"
    labels = _labels(pictures, train, test, progress)
    random = np.random.default_rng(split_seed)  # the first images of a split should be of many classes
    train, test = random.permutation(train), random.permutation(test)
    return Dataset(
        name=place.absolute().stem if place.is_file() else place.absolute().name or "pictures",
        labels=labels,
        train=_split(pictures, labels, train),
        test=_split(pictures, labels, test),
        source=f"{listing.kind}: {len(train) + len(test):,} of {len(listing.files):,} files, decoded to "
        f"{input_shape[1]}x{input_shape[0]} pixels",
        sha256=_sha256(pictures, labels, input_shape, {TRAIN: train, TEST: test}),
        test_split=how,
    )


def load_test_split(
    place: Path, *, labels: Sequence[str], input_shape: InputShape, cache: Path, progress: Progress | None = None
) -> tuple[Split, str]:
    """Return all pictures of a folder or CSV file as the test split of a model with these labels, and its SHA-256.

    Of a folder with train/ and test/, only the test pictures.

    Raises:
        DatasetError: there are no pictures, or a folder is none of the labels.
        CheckpointError: the cache can't be written.
    """
    progress = progress or Progress()
    listing = list_pictures(place)
    unknown = sorted(set(listing.labels) - set(labels))
    if unknown:
        raise DatasetError(
            f"{place} has pictures of {_named(unknown)}",
            expected=f"the model's labels: {_named(labels)}",
            remedy="rename the folders, or give the labels in the order of the model's output with --labels",
        )
    pictures = decoded_pictures(listing, input_shape, folder=cache, progress=progress)
    _tell_files(
        progress, "files that can't be read", [f"{file.name}: {reason}" for file, reason in pictures.unreadable]
    )
    rows = np.array([row for row, file in enumerate(pictures.files) if file.part != TRAIN], np.int64)
    rows = np.random.default_rng(SPLIT_SEED).permutation(rows)
    return _split(pictures, labels, rows), _sha256(pictures, labels, input_shape, {TEST: rows})


def _own_parts(pictures: DecodedPictures, progress: Progress) -> tuple[Indices, Indices]:
    """Return the training and test rows as their places say; copies of test pictures don't train."""
    test = [row for row, file in enumerate(pictures.files) if file.part == TEST]
    test_hashes = {pictures.sha256[row] for row in test}
    train = [row for row, file in enumerate(pictures.files) if file.part != TEST]
    copies = [row for row in train if pictures.sha256[row] in test_hashes]
    _tell_files(progress, "copies of test pictures, which don't train", [pictures.files[row].name for row in copies])
    left_out = set(copies)
    return np.array([row for row in train if row not in left_out], np.int64), np.array(test, np.int64)


def _without_copies(pictures: DecodedPictures, progress: Progress) -> Indices:
    """Return one row of each different picture, and none of a picture with several labels."""
    by_hash: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(pictures.sha256):
        by_hash[digest].append(row)
    kept, copies, contradictions = [], [], []
    for rows in by_hash.values():
        names = [pictures.files[row].name for row in rows]
        if len({pictures.files[row].label for row in rows}) > 1:
            contradictions.append(" = ".join(names))
            continue
        kept.append(rows[0])
        copies += [f"{name} = {names[0]}" for name in names[1:]]
    _tell_files(progress, "copies of another picture, left out", copies)
    _tell_files(progress, "pictures with several labels, left out", contradictions)
    return np.array(kept, np.int64)


def _draw(pictures: DecodedPictures, rows: Indices, *, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Draw the test rows of each class: at least one, and at least one stays to train; a single picture trains."""
    by_label: dict[str, list[int]] = defaultdict(list)
    for row in rows.tolist():
        by_label[pictures.files[row].label].append(row)
    train: list[int] = []
    test: list[int] = []
    for number, label in enumerate(sorted(by_label)):
        drawn = np.random.default_rng([seed, number]).permutation(by_label[label]).tolist()
        count = min(max(1, round(len(drawn) * fraction)), len(drawn) - 1)
        test += drawn[:count]
        train += drawn[count:]
    return np.array(sorted(train), np.int64), np.array(sorted(test), np.int64)


def _labels(pictures: DecodedPictures, train: Indices, test: Indices, progress: Progress) -> tuple[str, ...]:
    """Return the labels of the training pictures, sorted, after checking their numbers."""
    counts: dict[str, int] = defaultdict(int)
    for row in train.tolist():
        counts[pictures.files[row].label] += 1
    listed = {file.label for file in pictures.files} | {file.label for file, _ in pictures.unreadable}
    untrained = sorted(listed - set(counts))
    if untrained:
        raise DatasetError(
            f"{_named(untrained)} {'have' if len(untrained) > 1 else 'has'} no pictures to train on",
            expected="at least one readable picture of each class that is not a copy",
            remedy="add pictures, or remove the folder",
        )
    if len(counts) < MIN_CLASSES or not len(test):
        raise DatasetError("there are too few pictures to train and to test", expected="at least two of a class")
    for row in test.tolist():
        counts[pictures.files[row].label] += 1
    few = [f"{label} ({count})" for label, count in sorted(counts.items()) if count < FEW_PICTURES]
    if few:
        progress.tell(f"warning: fewer than {FEW_PICTURES} pictures of {_named(few)}")
    return tuple(sorted(counts))


def _split(pictures: DecodedPictures, labels: Sequence[str], rows: Indices) -> Split:
    numbers = {label: number for number, label in enumerate(labels)}
    return Split(
        Rows(pictures.images, rows),
        np.array([numbers[pictures.files[row].label] for row in rows.tolist()], np.int64),
    )


def _sha256(pictures: DecodedPictures, labels: Sequence[str], shape: InputShape, splits: dict[str, Indices]) -> str:
    """Return a hash over the labels, the size of the pixels, and each picture's split, label and file."""
    digest = hashlib.sha256(repr((tuple(labels), shape)).encode())
    for part, rows in splits.items():
        for row in rows.tolist():
            digest.update(f"\n{part} {pictures.files[row].label} {pictures.sha256[row]}".encode())
    return digest.hexdigest()


def _tell_files(progress: Progress, what: str, names: Sequence[str]) -> None:
    if names:
        progress.tell(f"warning: {what} ({len(names):,}): {_named(names)}")


def _named(names: Iterable[str]) -> str:
    listed = list(names)
    shown = ", ".join(listed[:MAX_NAMED])
    return shown if len(listed) <= MAX_NAMED else f"{shown} and {len(listed) - MAX_NAMED:,} more"
