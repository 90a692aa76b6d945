"""Augment a batch of training images: crop, flip, contrast, noise, cutout and CutMix.

Written with NumPy because Keras' `RandomCrop` crops a whole batch at the same place, and its other layers resample
where shifting is enough. A batch of 128 takes about a millisecond. The recipe chooses the augmentations.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar10_serving.runtimes.base import Images
from training.recipes import Augmentation

GREY = 128


def augment(images: Images, augmentation: Augmentation, random: np.random.Generator) -> Images:
    """Augment each of the images (batch, height, width, 3) uint8 independently; return a new array.

    The random draws depend only on the generator and the batch size, never on the pixels.
    """
    if augmentation.crop_padding_pixels:
        images = _crop(images, augmentation.crop_padding_pixels, random)
    if augmentation.flip:
        flipped = random.random(len(images)) < 0.5  # noqa: PLR2004
        images = images.copy()
        images[flipped] = images[flipped, :, ::-1]
    if augmentation.contrast_share:
        images = _lower_contrast(images, augmentation.contrast_share, augmentation.contrast_lowest, random)
    if augmentation.noise_share:
        images = _add_noise(images, augmentation.noise_share, augmentation.noise_deviation, random)
    if augmentation.cutout_pixels:
        images = _cut_out(images, augmentation.cutout_pixels, random)
    return images


def cut_mix(images: Images, share: float, random: np.random.Generator) -> Images:
    """Paste a rectangle of another image into this share of the images; return a new array.

    The images are (batch, height, width, 3) uint8. The rectangle keeps its position. Its area is uniform between zero
    and the whole image, clipped at the edges (Yun et al. 2019, arXiv:1905.04899, with alpha 1).
    """
    n, height, width, _ = images.shape
    others = images[random.permutation(n)]
    side = np.sqrt(random.random(n)) * (random.random(n) < share)
    rows = _near(np.arange(height), random.integers(0, height, (n,)), np.rint(side * height))
    columns = _near(np.arange(width), random.integers(0, width, (n,)), np.rint(side * width))
    return np.where((rows[:, :, None] & columns[:, None, :])[..., None], others, images)


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


def _near(positions: NDArray[np.int64], centres: NDArray[np.int64], sides: NDArray[Any] | int) -> NDArray[np.bool_]:
    """Mark the positions that each square covers, as (centres, positions)."""
    lengths = np.broadcast_to(sides, centres.shape)[:, None]
    first = centres[:, None] - lengths // 2
    return np.asarray((positions >= first) & (positions < first + lengths))


def _lower_contrast(images: Images, share: float, lowest: float, random: np.random.Generator) -> Images:
    changed = np.flatnonzero(random.random(len(images)) < share)
    left = lowest ** random.random((len(changed), 1, 1, 1), np.float32)
    pixels = images[changed].astype(np.float32)
    means = pixels.mean(axis=(1, 2), keepdims=True)
    return _with(images, changed, (pixels - means) * left + means)


def _add_noise(images: Images, share: float, deviation: float, random: np.random.Generator) -> Images:
    changed = np.flatnonzero(random.random(len(images)) < share)
    deviations = random.random((len(changed), 1, 1, 1), np.float32) * np.float32(deviation * 255)
    noise = random.standard_normal((len(changed), *images.shape[1:]), np.float32)
    return _with(images, changed, images[changed] + noise * deviations)


def _with(images: Images, changed: NDArray[np.int64], pixels: NDArray[Any]) -> Images:
    """Return a copy of the images with the changed ones replaced."""
    images = images.copy()
    images[changed] = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return images
