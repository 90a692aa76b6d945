"""Pictures without labels, for the golden answers of a model that is imported without test pictures."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from cifar10_serving.runtimes.base import Images
from training.data.dataset import Split
from training.importing.source import Size

UNLABELLED: Final = -1
CROPS: Final = ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5))
SEED: Final = 0


def unlabelled_pictures(size: Size) -> Split:
    """Return 16 pictures of this height and width with the label -1: parts of two photographs, and synthetic ones.

    The photographs are scikit-learn's sample images. The same size always gives the same pictures.
    """
    height, width = size
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    pictures: list[NDArray[Any]] = [_part(photo, size, corner) for photo in photos for corner in CROPS]
    rows, columns = np.linspace(0, 255, height), np.linspace(0, 255, width)
    across, down = np.meshgrid(columns, rows)
    random = np.random.default_rng(SEED)
    pictures += [
        _grey(across),
        _grey(down),
        np.stack([across, down, 255 - across], axis=-1),
        _grey(255.0 * ((np.indices(size).sum(axis=0) // 4) % 2)),
        np.full((height, width, 3), 0.0),
        np.full((height, width, 3), 255.0),
        np.broadcast_to(random.integers(0, 256, (1, 1, 3)), (height, width, 3)),
        random.integers(0, 256, (height, width, 3)),
    ]
    images: Images = np.stack([np.asarray(picture, np.float64).astype(np.uint8) for picture in pictures])
    return Split(images, np.full(len(images), UNLABELLED, np.int64))


def _part(photo: Image.Image, size: Size, corner: tuple[float, float]) -> Images:
    height, width = size
    scale = min(photo.width / width, photo.height / height) / 2
    left, top = corner[0] * (photo.width - scale * width), corner[1] * (photo.height - scale * height)
    box = (left, top, left + scale * width, top + scale * height)
    return np.asarray(photo.resize((width, height), Image.Resampling.BICUBIC, box=box), np.uint8)


def _grey(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.repeat(values[..., None], 3, axis=-1)
