"""The tutorial's small CNN, one network of 582,026 parameters written in Keras' three styles.

Conv 32 -> pool -> Conv 64 -> pool -> Conv 64 (3x3, ReLU, padding same; pool 2x2) -> Dense 128 ReLU -> Dense 10
softmax. Takes (batch, 32, 32, 3) float32 as the recipe scales it, returns probabilities (batch, 10) float32.
"""

from typing import Any

import keras
from keras import layers

from catalog.labels import CLASS_COUNT, IMAGE_SHAPE


def sequential() -> keras.Sequential:
    """The stack of layers, and nothing else to say."""
    return keras.Sequential(
        [
            keras.Input(IMAGE_SHAPE),
            layers.Conv2D(32, 3, activation="relu", padding="same"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu", padding="same"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu", padding="same"),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(CLASS_COUNT, activation="softmax", dtype="float32"),
        ],
        name="Sequential_Model",
    )


def functional() -> keras.Model:
    """The graph from input to output, drawn tensor by tensor."""
    images = keras.Input(IMAGE_SHAPE)
    x = layers.Conv2D(32, 3, activation="relu", padding="same")(images)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(64, 3, activation="relu", padding="same")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(64, 3, activation="relu", padding="same")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    probabilities = layers.Dense(CLASS_COUNT, activation="softmax", dtype="float32")(x)
    return keras.Model(images, probabilities, name="Functional_Model")


class SubclassingModel(keras.Model):  # type: ignore[misc]  # keras has no type information
    """The layers as attributes, the way through them as code in `call`."""

    def __init__(self) -> None:
        super().__init__(name="Sub_Classing_Model")
        self.convolution_1 = layers.Conv2D(32, 3, activation="relu", padding="same")
        self.convolution_2 = layers.Conv2D(64, 3, activation="relu", padding="same")
        self.convolution_3 = layers.Conv2D(64, 3, activation="relu", padding="same")
        self.pool_1 = layers.MaxPooling2D(2)
        self.pool_2 = layers.MaxPooling2D(2)
        self.flatten = layers.Flatten()
        self.hidden = layers.Dense(128, activation="relu")
        self.classifier = layers.Dense(CLASS_COUNT, activation="softmax", dtype="float32")

    def call(self, images: Any) -> Any:
        """Probabilities (batch, 10) of images (batch, 32, 32, 3)."""
        x = self.pool_1(self.convolution_1(images))
        x = self.pool_2(self.convolution_2(x))
        x = self.flatten(self.convolution_3(x))
        return self.classifier(self.hidden(x))


def subclassing() -> keras.Model:
    """The subclass with its weights made, which takes one symbolic call."""
    model = SubclassingModel()
    model(keras.Input(IMAGE_SHAPE))
    return model
