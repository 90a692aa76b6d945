"""Image corruptions: noise, blur, contrast and JPEG at three strengths each.

The corruptions and their constants are those of CIFAR-10-C at severities 1, 3 and 5 (Hendrycks and Dietterich 2019,
arXiv:1903.12261). They are applied to the official test images, so no other data set is needed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from cifar10_serving.runtimes.base import Images

NOISE_SEED: Final = 0
STRENGTHS: Final = (1, 2, 3)


@dataclass(frozen=True)
class Corruption:
    """A corruption of images (n, height, width, 3) uint8, with one parameter for each of `STRENGTHS`."""

    name: str
    parameter_name: str
    parameters: tuple[float, float, float]
    change: Callable[[Images, float], Images]

    def apply(self, images: Images, strength: int) -> Images:
        """Corrupt the images at a strength (1 to 3), deterministically."""
        return self.change(images, self.parameters[strength - 1])


def _noise(images: Images, deviation: float) -> Images:
    noise = np.random.default_rng(NOISE_SEED).normal(0, deviation * 255, images.shape)
    return _as_pixels(images + noise)


def _blur(images: Images, deviation_pixels: float) -> Images:
    return _as_pixels(
        gaussian_filter(images.astype(np.float32), (0, deviation_pixels, deviation_pixels, 0), mode="nearest")
    )


def _contrast(images: Images, share: float) -> Images:
    means = images.mean(axis=(1, 2), keepdims=True)
    return _as_pixels((images - means) * share + means)


def _jpeg(images: Images, quality: float) -> Images:
    return np.stack([_through_jpeg(image, int(quality)) for image in images])


def _through_jpeg(image: Images, quality: int) -> Images:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def _as_pixels(values: NDArray[Any]) -> Images:
    pixels: Images = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return pixels


CORRUPTIONS: Final = (
    Corruption("noise", "standard deviation, of 1", (0.04, 0.08, 0.10), _noise),
    Corruption("blur", "standard deviation, pixels", (0.4, 0.7, 1.0), _blur),
    Corruption("contrast", "share left", (0.75, 0.4, 0.15), _contrast),
    Corruption("jpeg", "quality", (80, 58, 40), _jpeg),
)
