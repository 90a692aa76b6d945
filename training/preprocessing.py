"""Scale uint8 pixels to a network's input, with the same arithmetic in NumPy and in the exported graph."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.recipes.recipe import InputScaling


@dataclass(frozen=True)
class _Affine:
    """(pixel - mean) / deviation for each channel R, G, B; `bgr` then reverses the channels."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    bgr: bool = False


SCALINGS: Final[dict[InputScaling, _Affine]] = {
    "unscaled": _Affine((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "divide_by_255": _Affine((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "minus_one_to_one": _Affine((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "imagenet": _Affine((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "bgr_minus_imagenet_mean": _Affine((123.68, 116.779, 103.939), (1.0, 1.0, 1.0), bgr=True),
    "standardize": _Affine((125.307, 122.950, 113.865), (62.993, 62.089, 66.705)),
}
"""`divide_by_255` gives 0..1, as in the tutorial. Keras' ImageNet weights of MobileNetV2 and ResNet50V2 were trained
with `minus_one_to_one`, those of VGG16 with `bgr_minus_imagenet_mean`; PyTorch's with `imagenet`. `standardize` uses
CIFAR-10's own mean and deviation over the 50,000 training images."""


def scale(images: NDArray[np.uint8], scaling: InputScaling) -> NDArray[np.float32]:
    """Scale images (batch, height, width, 3) uint8 RGB 0..255 to float32."""
    affine = SCALINGS[scaling]
    pixels = images.astype(np.float32)
    if any(affine.mean):
        pixels -= _of_an_image(affine.mean, pixels.shape[1:])
    pixels /= _of_an_image(affine.deviation, pixels.shape[1:])
    return pixels[..., ::-1] if affine.bgr else pixels


def _of_an_image(channels: tuple[float, float, float], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Broadcast to (height, width, 3): NumPy is several times as fast over a whole image as over three channels."""
    return np.broadcast_to(np.array(channels, np.float32), shape).copy()


def scale_in_graph(images: Any, scaling: InputScaling) -> Any:
    """Apply `scale` to a tensor (batch, height, width, 3) float32 RGB 0..255 inside a graph."""
    affine = SCALINGS[scaling]
    pixels = images
    if any(affine.mean):
        pixels = pixels - np.array(affine.mean, np.float32)
    pixels = pixels / np.array(affine.deviation, np.float32)
    return pixels[..., ::-1] if affine.bgr else pixels
