"""The wrapping of an imported model: scaling in front, probabilities behind; in NumPy and in TensorFlow's graph.

`onnx_file` has the same for OpenVINO's graph.
"""

from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from cifar10_serving.artifacts.metadata import InputShape, SourceOutputs
from cifar10_serving.runtimes.base import Probabilities
from training.recipes.recipe import InputScaling


@dataclass(frozen=True)
class Wrapping:
    """Everything that a version adds to an imported model."""

    scaling: InputScaling
    outputs: SourceOutputs
    input_shape: InputShape
    class_count: int


def probabilities_of(values: NDArray[np.float32], outputs: SourceOutputs) -> Probabilities:
    """Return the probabilities (n, classes) float32 that a model's outputs (n, outputs) mean."""
    match outputs:
        case "probabilities":
            return values
        case "logits":
            powers = np.exp((values - values.max(axis=1, keepdims=True)).astype(np.float64))
            return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
        case "binary_probability":
            return np.concatenate([1 - values, values], axis=1)
        case "binary_logit":
            second = 1 / (1 + np.exp(-np.clip(values.astype(np.float64), -700, 700)))
            return np.asarray(np.concatenate([1 - second, second], axis=1), np.float32)
        case _:
            assert_never(outputs)


def probabilities_in_graph(values: Any, outputs: SourceOutputs) -> Any:
    """Apply `probabilities_of` inside a TensorFlow graph."""
    import tensorflow as tf

    # AutoGraph can't convert `match`.
    if outputs == "logits":
        return tf.nn.softmax(values)
    if outputs == "binary_logit":
        return tf.concat([tf.sigmoid(-values), tf.sigmoid(values)], axis=1)
    if outputs == "binary_probability":
        return tf.concat([1.0 - values, values], axis=1)
    return values
