from pathlib import Path

import keras
import numpy as np
import pytest

from cifar10_serving.runtimes.openvino import OpenVinoRuntime
from tests.training.conftest import golden_images
from training.data import CIFAR_DIMENSIONS
from training.evaluate import calibration_error
from training.saved_model import write_saved_model
from training.temperature import at_temperature, best_temperature


def answers_and_labels(n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated answers, and labels drawn from them."""
    random = np.random.default_rng(5)
    logits = random.normal(scale=2.5, size=(n, 10))
    powers = np.exp(logits)
    probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    labels = (probabilities.cumsum(axis=1) > random.random((n, 1))).argmax(axis=1)
    return probabilities, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_temperature_undoes_what_made_the_answers_too_sure_or_too_shy(temperature: float) -> None:
    calibrated, labels = answers_and_labels()
    seen = at_temperature(calibrated, 1 / temperature)
    assert best_temperature(seen, labels) == pytest.approx(temperature, rel=0.03)
    assert calibration_error(at_temperature(seen, temperature), labels) < 0.015


def test_classes_stay_as_they_are_and_answers_stay_probabilities() -> None:
    probabilities, _ = answers_and_labels(200)
    probabilities[0] = np.eye(10)[3]  # whose other logits are minus infinity
    scaled = at_temperature(probabilities, 3.0)
    np.testing.assert_array_equal(scaled.argmax(axis=1), probabilities.argmax(axis=1))
    np.testing.assert_allclose(scaled.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(at_temperature(probabilities, 1.0).argmax(axis=1), probabilities.argmax(axis=1))


@pytest.mark.slow
def test_exported_graph_answers_at_its_temperature(tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    )
    images = golden_images().pixels
    answers = []
    for temperature in (1.0, 2.5):
        folder = tmp_path / str(temperature)
        write_saved_model(model, "divide_by_255", CIFAR_DIMENSIONS, folder, temperature=temperature)
        answers.append(OpenVinoRuntime().load(folder).predict(images))
    plain, scaled = answers
    assert np.abs(plain - scaled).max() > 0.01
    np.testing.assert_allclose(scaled, at_temperature(plain, 2.5), atol=1e-4)
