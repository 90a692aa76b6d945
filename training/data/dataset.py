"""Labelled images in memory or in a file: a data set with its training and test split, whatever the images show.

`training.data.cifar10` loads CIFAR-10, `training.data.folders` a folder of pictures. `training.batches` makes the
batches, `training.preprocessing` scales the pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, overload

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from cifar10_serving.artifacts.metadata import CHANNELS, InputShape
from cifar10_serving.runtimes.base import Images
from training.errors import DatasetError

BLOCK_BYTES: Final = 2**24
"""Images that are read together where all of a split are needed one after another."""

Labels = NDArray[np.int64]


class StoredImages(Protocol):
    """Images (n, height, width, 3) uint8 RGB 0..255 that are read when they are indexed: an array, or `Rows`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, height, width, 3)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8."""
        ...

    def __len__(self) -> int: ...

    @overload
    def __getitem__(self, index: int, /) -> Images: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | NDArray[np.int64], /) -> Images: ...


class Rows:
    """Some images of a memory-mapped file, in any order; indexing reads only the images that it asks for.

    Args:
        images: (n, height, width, 3) uint8, memory-mapped.
        rows: indices of the images.
    """

    def __init__(self, images: Images, rows: NDArray[np.int64]) -> None:
        self._images = images
        self._rows = rows
        self.shape = (len(rows), *images.shape[1:])
        self.dtype = images.dtype

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Images: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | NDArray[np.int64]) -> Images: ...

    def __getitem__(self, index: Any) -> Images:
        return np.array(self._images[self._rows[index]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Images:  # a copy anyway
        return np.asarray(self[:], dtype)

    def take(self, rows: NDArray[np.int64]) -> "Rows":
        """Return the images at these indices without reading them."""
        return Rows(self._images, self._rows[rows])


@dataclass(frozen=True)
class Dimensions:
    """The size of a classifier: height, width and channels of its images, and the number of its classes."""

    input_shape: InputShape
    class_count: int


@dataclass(frozen=True)
class Split:
    """Images (n, height, width, 3) uint8 RGB 0..255 and labels (n,) int64 of one split of the data."""

    images: StoredImages
    labels: Labels

    def __post_init__(self) -> None:
        match self.images.shape:
            case [n, _, _, channels] if (n, channels) == (len(self.labels), CHANNELS) and self.images.dtype == np.uint8:
                return
        raise DatasetError(
            f"images of shape {self.images.shape} {self.images.dtype} for {len(self.labels)} labels",
            expected=f"({len(self.labels)}, height, width, {CHANNELS}) uint8",
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> InputShape:
        """Height, width and channels of each image."""
        _, height, width, channels = self.images.shape
        return height, width, channels

    @property
    def pixels(self) -> Images:
        """All images as one array in memory."""
        return np.asarray(self.images)

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> "Split":
        """Return the images and labels at these indices, in this order; images in a file stay there."""
        chosen = np.asarray(indices, np.int64)
        images = self.images.take(chosen) if isinstance(self.images, Rows) else self.images[chosen]
        return Split(images, self.labels[chosen])


@dataclass(frozen=True)
class Dataset:
    """A data set: its name, the names of its classes, both splits, and where it comes from.

    `sha256` identifies the images, labels and splits. `source` says in which form they were read, and `test_split` how
    the test images were chosen if the data set doesn't say so itself.
    """

    name: str
    labels: tuple[str, ...]
    train: Split
    test: Split
    source: str
    sha256: str
    test_split: str = ""

    @property
    def dimensions(self) -> Dimensions:
        """Size of the images and number of classes."""
        return Dimensions(self.train.input_shape, len(self.labels))


def blocks(images: StoredImages) -> Iterator[Images]:
    """Yield all images in order, some at a time."""
    size = max(1, BLOCK_BYTES // max(1, int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), size):
        yield images[start : start + size]


def split_rows(n: int, *, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split the indices of n images into training and validation indices.

    Uses scikit-learn's `train_test_split(test_size=fraction, random_state=seed)`; at fraction 0 all train, in order.
    """
    rows = np.arange(n)
    if fraction == 0:
        return rows, rows[:0]
    training, validation = train_test_split(rows, test_size=fraction, random_state=seed)
    return training, validation


def split_validation(train: Split, *, fraction: float, seed: int) -> tuple[Split, Split]:
    """Split a data set by `split_rows`."""
    training, validation = split_rows(len(train), fraction=fraction, seed=seed)
    return train.take(training), train.take(validation)
