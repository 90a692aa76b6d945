"""BatchNormalization that trains faster than Keras' own, and one that is there in training alone.

Keras 3 computes the moments of a batch operation by operation; TensorFlow's fused kernel does the same in one. `fold`
takes the layers out again that `after_convolutions` put in. Which recipe wants which is `training.build`'s part.
"""

from typing import Any, Final

import keras
import numpy as np
from keras import layers

from training.backend import TENSORFLOW, backend

MOMENTUM: Final = 0.9
"""Of the moving averages of networks that are changed for training: they follow the weights within dozens of steps."""


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
            tf.cast(self.gamma, tf.float32),
            tf.cast(self.beta, tf.float32),
            epsilon=self.epsilon,
            is_training=True,
        )
        self.moving_mean.assign(self.moving_mean * self.momentum + mean * (1 - self.momentum))
        self.moving_variance.assign(self.moving_variance * self.momentum + variance * (1 - self.momentum))
        return outputs


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
        (kernel,) = normalized.get_layer(layer.name).get_weights()
        scale, shift, mean, variance = (values.astype(np.float64) for values in normalization.get_weights())
        factor = scale / np.sqrt(variance + normalization.epsilon)
        layer.set_weights([kernel * factor, shift - mean * factor])


def _normalization_of(convolution: Any) -> str:
    return f"{convolution.name}_normalization"


def _named_as(network: keras.Model, clone: keras.Model) -> keras.Model:
    clone.name = network.name
    return clone
