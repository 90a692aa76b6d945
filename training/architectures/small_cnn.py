"""The tutorial's small CNN, one network of 582,026 parameters written in Keras' three styles.

Conv 32 -> pool -> Conv 64 -> pool -> Conv 64 (3x3, ReLU, padding same; pool 2x2) -> Dense 128 ReLU -> Dense 10
softmax. Takes (batch, 32, 32, 3) float32 as the recipe scales it, returns probabilities (batch, 10) float32. A recipe
may train it of layers that are normalized meanwhile: the same styles, written of other `Parts`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import keras
from keras import layers

from cifar10_serving.artifacts.labels import CLASS_COUNT, IMAGE_SHAPE
from training.batch_normalization import NormalizedConv2D, NormalizedDense


@dataclass(frozen=True)
class Parts:
    """The layers that a style is written of; each call makes one."""

    pooled_convolution: Callable[[int], Any]
    """A 3x3 convolution of so many filters with ReLU, which `pooling` follows."""
    pooling: Callable[[], Any]
    convolution: Callable[[int], Any]
    """One that nothing is pooled after."""
    dense: Callable[[int], Any]
    """A dense layer of so many units with ReLU."""


def _convolution(filters: int) -> Any:
    return layers.Conv2D(filters, 3, activation="relu", padding="same")


PLAIN: Final = Parts(
    pooled_convolution=_convolution,
    pooling=partial(layers.MaxPooling2D, 2),
    convolution=_convolution,
    dense=partial(layers.Dense, activation="relu"),
)
NORMALIZED: Final = Parts(
    pooled_convolution=partial(NormalizedConv2D, pool_size=2),
    pooling=layers.Identity,
    convolution=NormalizedConv2D,
    dense=NormalizedDense,
)
"""For training: layer by layer, `folded_weights` gives the weights of the same style of `PLAIN` parts."""


def sequential(parts: Parts = PLAIN) -> keras.Sequential:
    """The stack of layers, and nothing else to say."""
    return keras.Sequential(
        [
            keras.Input(IMAGE_SHAPE),
            parts.pooled_convolution(32),
            parts.pooling(),
            parts.pooled_convolution(64),
            parts.pooling(),
            parts.convolution(64),
            layers.Flatten(),
            parts.dense(128),
            layers.Dense(CLASS_COUNT, activation="softmax", dtype="float32"),
        ],
        name="Sequential_Model",
    )


def functional(parts: Parts = PLAIN) -> keras.Model:
    """The graph from input to output, drawn tensor by tensor."""
    images = keras.Input(IMAGE_SHAPE)
    x = parts.pooled_convolution(32)(images)
    x = parts.pooling()(x)
    x = parts.pooled_convolution(64)(x)
    x = parts.pooling()(x)
    x = parts.convolution(64)(x)
    x = layers.Flatten()(x)
    x = parts.dense(128)(x)
    probabilities = layers.Dense(CLASS_COUNT, activation="softmax", dtype="float32")(x)
    return keras.Model(images, probabilities, name="Functional_Model")


class SubclassingModel(keras.Model):  # type: ignore[misc]  # keras has no type information
    """The layers as attributes, the way through them as code in `call`."""

    def __init__(self, parts: Parts = PLAIN) -> None:
        super().__init__(name="Sub_Classing_Model")
        self.convolution_1 = parts.pooled_convolution(32)
        self.convolution_2 = parts.pooled_convolution(64)
        self.convolution_3 = parts.convolution(64)
        self.pool_1 = parts.pooling()
        self.pool_2 = parts.pooling()
        self.flatten = layers.Flatten()
        self.hidden = parts.dense(128)
        self.classifier = layers.Dense(CLASS_COUNT, activation="softmax", dtype="float32")

    def call(self, images: Any) -> Any:
        """Probabilities (batch, 10) of images (batch, 32, 32, 3)."""
        x = self.pool_1(self.convolution_1(images))
        x = self.pool_2(self.convolution_2(x))
        x = self.flatten(self.convolution_3(x))
        return self.classifier(self.hidden(x))


def subclassing(parts: Parts = PLAIN) -> keras.Model:
    """The subclass with its weights made, which takes one symbolic call."""
    model = SubclassingModel(parts)
    model(keras.Input(IMAGE_SHAPE))
    return model
