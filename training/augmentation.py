"""Random changes of training images: crop, flip and cutout, of a whole batch at once.

Written on NumPy because Keras' own `RandomCrop` cuts a whole batch at one place, and its other layers resample what
only needs moving; this costs a batch of 128 about a millisecond. Which changes a run makes is its recipe's part.
"""

import numpy as np
from numpy.typing import NDArray

from runtime.base import Images
from training.recipes import Augmentation

GREY = 128


def augment(images: Images, augmentation: Augmentation, random: np.random.Generator) -> Images:
    """Each of the images (batch, 32, 32, 3) uint8 changed in its own way, as a new array.

    The draws depend on the generator and the batch's size alone, never on the pixels.
    """
    if augmentation.crop_padding_pixels:
        images = _crop(images, augmentation.crop_padding_pixels, random)
    if augmentation.flip:
        flipped = random.random(len(images)) < 0.5  # noqa: PLR2004
        images = images.copy()
        images[flipped] = images[flipped, :, ::-1]
    if augmentation.cutout_pixels:
        images = _cut_out(images, augmentation.cutout_pixels, random)
    return images


def _crop(images: Images, padding: int, random: np.random.Generator) -> Images:
    n, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode="reflect")
    tops, lefts = random.integers(0, 2 * padding + 1, (2, n))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    return np.ascontiguousarray(windows[np.arange(n), tops, lefts].transpose(0, 2, 3, 1))


def _cut_out(images: Images, side: int, random: np.random.Generator) -> Images:
    n, height, width, _ = images.shape
    centre_rows = random.integers(0, height, (n,))
    centre_columns = random.integers(0, width, (n,))
    rows = _near(np.arange(height), centre_rows, side)
    columns = _near(np.arange(width), centre_columns, side)
    return np.where((rows[:, :, None] & columns[:, None, :])[..., None], np.uint8(GREY), images)


def _near(positions: NDArray[np.int64], centres: NDArray[np.int64], side: int) -> NDArray[np.bool_]:
    first = centres[:, None] - side // 2
    return (positions >= first) & (positions < first + side)
