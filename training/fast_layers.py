"""Keras' layers with the same weights and answers, whose training step takes a processor less time.

Which networks are built with them is `training.build`'s part; `scripts.compare_layers` measures what they save.
"""

from typing import Any, Final

import keras
import tensorflow as tf
from keras import layers

from training.batch_normalization import MOMENTUM, FusedBatchNormalization

PADDING_OF_STRIDE_2: Final = ((0, 1), (0, 1))
"""What TensorFlow's own padding `same` adds for a 3x3 kernel of stride 2 to images of even sides."""


class PointwiseConvolution(layers.Conv2D):  # type: ignore[misc]  # keras has no type information
    """Keras' 1x1 convolution of stride 1 over (batch, height, width, channels), as the matrix product that it is.

    TensorFlow's gradient of a convolution takes up to twenty times as long where images are small and channels many.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """(batch, height, width, channels) by (1, 1, channels, filters): (batch, height, width, filters)."""
        height, width, channels = inputs.shape[1:]
        rows = tf.matmul(tf.reshape(inputs, (-1, channels)), tf.reshape(kernel, (channels, self.filters)))
        return tf.reshape(rows, (-1, height, width, self.filters))


def with_fast_layers(network: keras.Model) -> keras.Model:
    """The same network, all weights drawn anew: normalized by TensorFlow's fused kernel, 1x1 convolutions multiplied.

    Padding that a depthwise convolution can do itself is left to it, which saves a copy of the activations. The moving
    averages follow within dozens of steps: at Keras' momentum of 0.999 for MobileNetV2 they lag behind the weights by
    epochs, and a run of 16 epochs that knew 0.90 of its own images answered 0.79 of them with those averages.
    """
    padded = _convolutions_that_can_pad(network)

    def clone(layer: Any) -> Any:
        kind, config = type(layer), layer.get_config()
        if kind is layers.BatchNormalization:
            kind, config = FusedBatchNormalization, config | {"momentum": MOMENTUM}
        elif kind is layers.Conv2D and layer.kernel_size == layer.strides == (1, 1):
            kind = PointwiseConvolution
        elif layer.name in padded:
            config["padding"] = "same"
        elif layer.name in padded.values():
            kind, config = layers.Identity, {"name": layer.name}
        return kind.from_config(config)

    copy = keras.models.clone_model(network, clone_function=clone)
    copy.name = network.name
    return copy


def _convolutions_that_can_pad(network: keras.Model) -> dict[str, str]:
    """Names of depthwise convolutions, each with the name of the layer that pads for it."""
    padding = {
        id(layer.output): layer.name
        for layer in network.layers
        if isinstance(layer, layers.ZeroPadding2D) and layer.padding == PADDING_OF_STRIDE_2
    }
    return {
        layer.name: padding[id(layer.input)]
        for layer in network.layers
        if isinstance(layer, layers.DepthwiseConv2D)
        and (layer.kernel_size, layer.strides, layer.padding) == ((3, 3), (2, 2), "valid")
        and id(layer.input) in padding
    }
