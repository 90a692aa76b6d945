"""The tutorial's small CNN, one network written in Keras' three styles: 582,026 parameters for CIFAR-10.

Conv 32 -> pool -> Conv 64 -> pool -> Conv 64 (3x3, ReLU, padding same; pool 2x2) -> Dense 128 ReLU -> Dense
softmax. Takes (batch, height, width, 3) float32 as scaled by the recipe, returns probabilities (batch, classes)
float32. A recipe may train it with normalized layers: the same styles, built from other `Parts`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import keras
from keras import layers

from training.batch_normalization import NormalizedConv2D, NormalizedDense
from training.data.dataset import Dimensions


@dataclass(frozen=True)
class Parts:
    """Factories of the layers that a style is built from."""

    pooled_convolution: Callable[[int], Any]
    """A 3x3 convolution with this many filters and ReLU, followed by `pooling`."""
    pooling: Callable[[], Any]
    convolution: Callable[[int], Any]
    """A 3x3 convolution with this many filters and ReLU, not followed by pooling."""
    dense: Callable[[int], Any]
    """A dense layer with this many units and ReLU."""


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
"""For training. The layers' `folded_weights` are the weights of the same style built from `PLAIN` parts."""


def sequential(dimensions: Dimensions, parts: Parts = PLAIN) -> keras.Sequential:
    """Build the network as a stack of layers."""
    return keras.Sequential(
        [
            keras.Input(dimensions.input_shape),
            parts.pooled_convolution(32),
            parts.pooling(),
            parts.pooled_convolution(64),
            parts.pooling(),
            parts.convolution(64),
            layers.Flatten(),
            parts.dense(128),
            layers.Dense(dimensions.class_count, activation="softmax", dtype="float32"),
        ],
        name="Sequential_Model",
    )


def functional(dimensions: Dimensions, parts: Parts = PLAIN) -> keras.Model:
    """Build the network as a graph, tensor by tensor."""
    images = keras.Input(dimensions.input_shape)
    x = parts.pooled_convolution(32)(images)
    x = parts.pooling()(x)
    x = parts.pooled_convolution(64)(x)
    x = parts.pooling()(x)
    x = parts.convolution(64)(x)
    x = layers.Flatten()(x)
    x = parts.dense(128)(x)
    probabilities = layers.Dense(dimensions.class_count, activation="softmax", dtype="float32")(x)
    return keras.Model(images, probabilities, name="Functional_Model")


class SubclassingModel(keras.Model):  # type: ignore[misc]  # keras has no type information
    """The network with layers as attributes and the forward pass in `call`."""

    def __init__(self, class_count: int, parts: Parts = PLAIN) -> None:
        super().__init__(name="Sub_Classing_Model")
        self.convolution_1 = parts.pooled_convolution(32)
        self.convolution_2 = parts.pooled_convolution(64)
        self.convolution_3 = parts.convolution(64)
        self.pool_1 = parts.pooling()
        self.pool_2 = parts.pooling()
        self.flatten = layers.Flatten()
        self.hidden = parts.dense(128)
        self.classifier = layers.Dense(class_count, activation="softmax", dtype="float32")

    def call(self, images: Any) -> Any:
        """Return probabilities (batch, classes) for images (batch, height, width, 3)."""
        x = self.pool_1(self.convolution_1(images))
        x = self.pool_2(self.convolution_2(x))
        x = self.flatten(self.convolution_3(x))
        return self.classifier(self.hidden(x))


def subclassing(dimensions: Dimensions, parts: Parts = PLAIN) -> keras.Model:
    """Build the subclass; one symbolic call creates its weights."""
    model = SubclassingModel(dimensions.class_count, parts)
    model(keras.Input(dimensions.input_shape))
    return model
