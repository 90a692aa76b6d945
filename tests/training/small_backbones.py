"""Small stand-ins for the backbones of `keras.applications`, where the size of the network is not what is tested."""

from collections.abc import Callable
from typing import Any

import keras

from training.architectures.transfer import BACKBONES


def small_backbone(name_of: str, *, width: int = 8) -> Callable[..., Any]:
    """Return a function that builds two convolutions and is called as the backbone of this transfer model is."""

    def new_backbone(
        *,
        include_top: bool,
        weights: None,
        input_shape: tuple[int, int, int],
        pooling: None = None,
        name: str = "small",
    ) -> Any:
        images = keras.Input(input_shape)
        x = keras.layers.Conv2D(width, 3, strides=4, padding="same", name="block_1")(images)
        x = keras.layers.Conv2D(2 * width, 3, strides=4, padding="same", name="block_2")(x)
        return keras.Model(images, x, name=name)

    new_backbone.__name__ = BACKBONES[name_of].__name__
    return new_backbone
