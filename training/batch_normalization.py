"""BatchNormalization that trains faster than Keras' own, and one that is there in training alone.

Keras 3 computes the moments of a batch operation by operation; TensorFlow's fused kernel does the same in one. `fold`
takes the layers out again that `after_convolutions` put in; `NormalizedConv2D` and `NormalizedDense` are one layer in
training as in the export. Which recipe wants which is `training.build`'s part.
"""

from typing import Any, Final

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from training.backend import TENSORFLOW, backend

MOMENTUM: Final = 0.9
"""Momentum of the moving averages in networks changed for training: they follow the weights within dozens of steps."""
SLOW_MOMENTUM: Final = 0.99
"""Momentum for small networks, whose batches have too few numbers for averages over ten batches."""


class FusedBatchNormalization(layers.BatchNormalization):  # type: ignore[misc]  # keras has no type information
    """Keras' layer for (batch, height, width, channels), its training step by TensorFlow's fused kernel.

    Outside of training it is Keras' layer, and on JAX, which fuses operations itself. The moving variance is that of
    n - 1 instead of n (Keras 2's way too).
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize by the batch's moments in training, by the moving ones otherwise; same shape and dtype."""
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
    """A 3x3 convolution that is normalized while it trains, and then is a plain one with ReLU again.

    Where max pooling follows the plain one, this layer pools before it normalizes, which leaves a quarter of the
    numbers. The order makes no difference to what it computes in the end: normalization by moving averages and
    ReLU are monotone as long as the normalization's scale is positive. Here it is 1, and the next layer's kernel does
    the scaling.

    Args:
        filters: channels of the output.
        pool_size: side of the pooling window; 1 doesn't pool.
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
        """(batch, height, width, channels) -> (batch, height / pool, width / pool, filters), not negative."""
        outputs = super().call(inputs)
        if self._pool_size > 1:
            outputs = keras.ops.max_pool(outputs, self._pool_size)
        return keras.ops.relu(self.normalization(outputs, training=training))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The convolution's, its sides divided by the pool's."""
        batch, height, width, channels = super().compute_output_shape(input_shape)
        return batch, _divided(height, self._pool_size), _divided(width, self._pool_size), channels

    def folded_weights(self) -> list[NDArray[np.float64]]:
        """Kernel and bias of the plain convolution that computes the same."""
        return _folded(self.kernel, self.normalization)


class NormalizedDense(layers.Dense):  # type: ignore[misc]
    """A dense layer that is normalized while it trains, and then is a plain one with ReLU again."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(units, use_bias=False, **options)
        self.normalization = layers.BatchNormalization(momentum=SLOW_MOMENTUM, scale=False, dtype=self.dtype_policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the kernel and the normalization's weights."""
        super().build(input_shape)
        self.normalization.build((*input_shape[:-1], self.units))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """(batch, n) -> (batch, units), not negative."""
        return keras.ops.relu(self.normalization(super().call(inputs), training=training))

    def folded_weights(self) -> list[NDArray[np.float64]]:
        """Kernel and bias of the plain layer that computes the same."""
        return _folded(self.kernel, self.normalization)


def after_convolutions(network: keras.Model) -> keras.Model:
    """The same network, all weights drawn anew, each convolution normalized before its ReLU.

    Such a network trains at learning rates at which the plain one diverges. The convolutions lose their biases, which
    the normalization would take out at once.
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
    """Give a plain network the weights with which it computes what `after_convolutions` of it learned.

    With moving mean m, variance v, scale g and shift b, a kernel becomes kernel * g / sqrt(v + epsilon), and the bias
    b - m * g / sqrt(v + epsilon) (Jacob et al. 2018, arXiv:1712.05877, section 3.2).

    Raises:
        ValueError: the networks have not the same convolutions.
    """
    for layer in plain.layers:
        if not isinstance(layer, layers.Conv2D):
            continue
        normalization = normalized.get_layer(_normalization_of(layer))
        layer.set_weights(_folded(normalized.get_layer(layer.name).kernel, normalization))


def _folded(kernel: Any, normalization: Any) -> list[NDArray[np.float64]]:
    """Kernel and bias with which a layer computes what it did with the normalization behind it."""
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
