"""Temperature scaling: divide the logits by one number so that confidence matches accuracy.

It changes no predicted class (Guo et al. 2017, arXiv:1706.04599, section 4.2). A recipe sets the temperature of the
exported graph. The best one is found on images that the model was not trained on.
"""

from typing import Any, Final

import keras
import numpy as np
from scipy.optimize import minimize_scalar

from cifar10_serving.runtimes.base import Probabilities
from training.data import Labels
from training.evaluate import PROBABILITY_FLOOR, cross_entropy

LOWEST: Final = 0.2
HIGHEST: Final = 5.0


def at_temperature(probabilities: Probabilities, temperature: float) -> Probabilities:
    """Return the probabilities (n, classes) float32 after dividing their logits by the temperature."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), PROBABILITY_FLOOR)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def at_temperature_in_graph(probabilities: Any, temperature: float) -> Any:
    """Apply `at_temperature` inside a graph; adds no operation at temperature 1."""
    if temperature == 1:
        return probabilities
    return keras.ops.softmax(keras.ops.log(keras.ops.maximum(probabilities, PROBABILITY_FLOOR)) / temperature)


def best_temperature(probabilities: Probabilities, labels: Labels) -> float:
    """Find the temperature between 0.2 and 5 that minimizes the cross-entropy.

    Args:
        probabilities: (n, classes) float32, for images that the model was not trained on.
        labels: (n,).
    """
    found = minimize_scalar(
        lambda temperature: cross_entropy(at_temperature(probabilities, temperature), labels),
        bounds=(LOWEST, HIGHEST),
        method="bounded",
    )
    return float(found.x)
