"""From uint8 pixels to what a network is trained on; the same arithmetic in NumPy and in the exported graph."""

from typing import Any, Final, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

InputScaling = Literal["divide_by_255"]

DIVISOR: Final[dict[InputScaling, float]] = {"divide_by_255": 255.0}


def scale(images: NDArray[np.uint8], scaling: InputScaling) -> NDArray[np.float32]:
    """Images (batch, 32, 32, 3) uint8 0..255 as the float32 that this scaling means: `divide_by_255` gives 0..1."""
    return images.astype(np.float32) / np.float32(DIVISOR[scaling])


def scale_in_graph(images: Any, scaling: InputScaling) -> Any:
    """`scale` for a TensorFlow tensor (batch, 32, 32, 3) uint8 inside a graph."""
    return tf.cast(images, tf.float32) / DIVISOR[scaling]
