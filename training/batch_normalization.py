"""Batch normalization that trains faster than Keras' own, or exists only during training.

Keras 3 computes the moments of a batch operation by operation; TensorFlow's fused kernel does the same in one. `fold`
removes the layers that `after_convolutions` inserted. `NormalizedConv2D` and `NormalizedDense` are a single layer both
in training and in the export. `training.build` chooses between them by the recipe.
"""

from typing import Any, Final

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from training.backend import TENSORFLOW, backend

MOMENTUM: Final = 0.9
"""Momentum of the moving averages in networks modified for training: they adapt within dozens of steps."""
SLOW_MOMENTUM: Final = 0.99
"""Momentum for small networks, whose batches have too few values for averages over ten batches."""


class FusedBatchNormalization(layers.BatchNormalization):  # type: ignore[misc]  # keras has no type information
    """Keras' layer for (batch, height, width, channels) with TensorFlow's fused kernel in training.

    Outside of training, and on JAX, which fuses operations itself, it is Keras' layer. The moving variance divides by
    n - 1 instead of n, as in Keras 2.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize by the batch's moments in training, otherwise by the moving averages; same shape and dtype."""
        if not (training and self.trainable) or backend() != TENSORFLOW:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        outputs, mean, variance, *_ = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            tf.cast(self.gamma, tf.float32) if self.scale else tf.ones_like(self.moving_mean),
            tf.cast(self.beta, tf.float32),
            epsilon=self.epsilon,
            is_training=True,
        )
        self.moving_mean.assign(self.moving_mean * self.momentum + mean * (1 - self.momentum))
        self.moving_variance.assign(self.moving_variance * self.momentum + variance * (1 - self.momentum))
        return outputs


class NormalizedConv2D(layers.Conv2D):  # type: ignore[misc]  # keras has no type information
    """A 3x3 convolution with batch normalization during training, exported as a plain convolution with ReLU.

    If max pooling follows the plain convolution, this layer pools before it normalizes, which leaves a quarter of the
    values. The order doesn't change the exported result: normalization by moving averages and ReLU are monotonic as
    long as the normalization's scale is positive. Here it is 1, and the next layer's kernel does the scaling.

    Args:
        filters: number of output channels.
        pool_size: side of the pooling window; 1 disables pooling.
    """

    def __init__(self, filters: int, *, pool_size: int = 1, **options: Any) -> None:
        super().__init__(filters, 3, padding="same", use_bias=False, **options)
        self.normalization = FusedBatchNormalization(momentum=SLOW_MOMENTUM, scale=False, dtype=self.dtype_policy)
        self._pool_size = pool_size

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the kernel and the normalization's weights."""
        super().build(input_shape)
        self.normalization.build((*input_shape[:-1], self.filters))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Map (batch, height, width, channels) to (batch, height / pool, width / pool, filters), not negative."""
        outputs = super().call(inputs)
        if self._pool_size > 1:
            outputs = keras.ops.max_pool(outputs, self._pool_size)
        return keras.ops.relu(self.normalization(outputs, training=training))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the convolution's output shape with its sides divided by the pool size."""
        batch, height, width, channels = super().compute_output_shape(input_shape)
        return batch, _divided(height, self._pool_size), _divided(width, self._pool_size), channels

    def folded_weights(self) -> list[NDArray[np.float64]]:
        """Return kernel and bias of the equivalent plain convolution."""
        return _folded(self.kernel, self.normalization)


class NormalizedDense(layers.Dense):  # type: ignore[misc]
    """A dense layer with batch normalization during training, exported as a plain layer with ReLU."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(units, use_bias=False, **options)
        self.normalization = layers.BatchNormalization(momentum=SLOW_MOMENTUM, scale=False, dtype=self.dtype_policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the kernel and the normalization's weights."""
        super().build(input_shape)
        self.normalization.build((*input_shape[:-1], self.units))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Map (batch, n) to (batch, units), not negative."""
        return keras.ops.relu(self.normalization(super().call(inputs), training=training))

    def folded_weights(self) -> list[NDArray[np.float64]]:
        """Return kernel and bias of the equivalent plain layer."""
        return _folded(self.kernel, self.normalization)


def after_convolutions(network: keras.Model) -> keras.Model:
    """Rebuild the network with new random weights and batch normalization between each convolution and its ReLU.

    Such a network trains at learning rates at which the plain one diverges. The convolutions have no bias, since the
    normalization would cancel it.
    """

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        if isinstance(layer, layers.Conv2D):
            config |= {"activation": "linear", "use_bias": False}
        return layer.__class__.from_config(config)

    def call(layer: Any, *arguments: Any, **options: Any) -> Any:
        outputs = layer(*arguments, **options)
        if not isinstance(layer, layers.Conv2D):
            return outputs
        normalization = FusedBatchNormalization(momentum=MOMENTUM, name=_normalization_of(layer))
        return layers.ReLU(name=f"{layer.name}_relu")(normalization(outputs))

    return _named_as(network, keras.models.clone_model(network, clone_function=clone, call_function=call))


def fold(normalized: keras.Model, plain: keras.Model) -> None:
    """Set a plain network's weights so that it computes the same as a trained `after_convolutions` network.

    With moving mean m, variance v, scale g and shift b, a kernel becomes kernel * g / sqrt(v + epsilon), and the bias
    b - m * g / sqrt(v + epsilon) (Jacob et al. 2018, arXiv:1712.05877, section 3.2).

    Raises:
        ValueError: the networks have different convolutions.
    """
    for layer in plain.layers:
        if not isinstance(layer, layers.Conv2D):
            continue
        normalization = normalized.get_layer(_normalization_of(layer))
        layer.set_weights(_folded(normalized.get_layer(layer.name).kernel, normalization))


def _folded(kernel: Any, normalization: Any) -> list[NDArray[np.float64]]:
    """Return kernel and bias of a layer with the following normalization folded in."""
    mean, variance, shift = (
        np.asarray(weights, np.float64)
        for weights in (normalization.moving_mean, normalization.moving_variance, normalization.beta)
    )
    scale = np.asarray(normalization.gamma, np.float64) if normalization.scale else 1.0
    factor = scale / np.sqrt(variance + normalization.epsilon)
    return [np.asarray(kernel, np.float64) * factor, shift - mean * factor]


def _divided(side: int | None, by: int) -> int | None:
    return None if side is None else side // by


def _normalization_of(convolution: Any) -> str:
    return f"{convolution.name}_normalization"


def _named_as(network: keras.Model, clone: keras.Model) -> keras.Model:
    clone.name = network.name
    return clone
