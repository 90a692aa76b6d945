"""Keras layers with the same weights and outputs but faster training steps.

`training.build` chooses the networks that use them; `scripts.compare_layers` measures the gain.
"""

from typing import Any, Final

import keras
from keras import layers, ops

from training.backend import JAX, backend
from training.batch_normalization import MOMENTUM, FusedBatchNormalization

PADDING_OF_STRIDE_2: Final = ((0, 1), (0, 1))
"""TensorFlow's padding `same` for a 3x3 kernel of stride 2 on images with even sides."""


class PointwiseConvolution(layers.Conv2D):  # type: ignore[misc]  # keras has no type information
    """Keras' 1x1 convolution of stride 1 over (batch, height, width, channels), computed as a matrix product.

    TensorFlow's gradient of a convolution takes up to twenty times as long for small images with many channels.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Multiply (batch, height, width, channels) by (1, 1, channels, filters)."""
        height, width, channels = inputs.shape[1:]
        rows = ops.matmul(ops.reshape(inputs, (-1, channels)), ops.reshape(kernel, (channels, self.filters)))
        return ops.reshape(rows, (-1, height, width, self.filters))


class ShiftedDepthwiseConvolution(layers.DepthwiseConv2D):  # type: ignore[misc]  # keras has no type information
    """Keras' depthwise convolution over (batch, height, width, channels), as a weighted sum of shifted images.

    XLA fuses it into one pass over memory. GPU libraries have no fast gradient for that many groups of one channel.
    """

    def call(self, inputs: Any) -> Any:
        """Convolve (batch, height, width, channels); stride and padding determine the output's sides."""
        (rows, columns), stride = self.kernel_size, self.strides[0]
        if self.padding == "same":
            inputs = ops.pad(inputs, ((0, 0), *self._same_padding(inputs.shape[1:3]), (0, 0)))
        height, width = [
            (side - size) // stride + 1 for side, size in zip(inputs.shape[1:3], self.kernel_size, strict=True)
        ]
        outputs: Any = 0
        for row in range(rows):
            for column in range(columns):
                moved = inputs[
                    :,
                    row : row + (height - 1) * stride + 1 : stride,
                    column : column + (width - 1) * stride + 1 : stride,
                ]
                outputs += moved * ops.cast(self.kernel[row, column, :, 0], moved.dtype)
        if self.use_bias:
            outputs += ops.cast(self.bias, outputs.dtype)
        return self.activation(outputs)

    def _same_padding(self, sides: tuple[int, int]) -> list[tuple[int, int]]:
        """Return the padding before and after each side like TensorFlow's `same`: an odd pixel goes after."""
        paddings = []
        for side, size, stride in zip(sides, self.kernel_size, self.strides, strict=True):
            needed = max((-(-side // stride) - 1) * stride + size - side, 0)
            paddings.append((needed // 2, needed - needed // 2))
        return paddings


def with_fast_layers(network: keras.Model) -> keras.Model:
    """Rebuild the network with new random weights, TensorFlow's fused batch normalization and 1x1 matrix products.

    Depthwise convolutions do their own padding where they can, which saves a copy of the activations. The moving
    averages adapt within dozens of steps. With Keras' momentum of 0.999 for MobileNetV2 they lag epochs behind the
    weights: a run of 16 epochs with a training accuracy of 0.90 had 0.79 on the same images with those averages.
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
        if kind is layers.DepthwiseConv2D and layer.depth_multiplier == 1 and backend() == JAX:
            kind = ShiftedDepthwiseConvolution
        return kind.from_config(config)

    copy = keras.models.clone_model(network, clone_function=clone)
    copy.name = network.name
    return copy


def _convolutions_that_can_pad(network: keras.Model) -> dict[str, str]:
    """Map each depthwise convolution's name to the name of the layer that pads for it."""
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
