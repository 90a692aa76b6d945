import numpy as np
import pytest
from sklearn.metrics import log_loss

from cifar10_serving.artifacts.layout import version_folder
from cifar10_serving.runtimes.openvino import OpenVinoRuntime
from tests.conftest import MODELS
from training.cifar10 import CLASS_NAMES
from training.data import Split
from training.evaluate import calibration_error, cross_entropy, evaluate


def test_evaluation_of_a_published_version_on_its_golden_images(golden_split: Split) -> None:
    runtime = OpenVinoRuntime()
    model = runtime.load(version_folder(MODELS, "sequential", 1))
    evaluation, probabilities = evaluate(runtime, model, golden_split, "test", CLASS_NAMES)
    right = probabilities.argmax(axis=1) == golden_split.labels
    assert (evaluation.n, evaluation.correct, evaluation.accuracy) == (64, right.sum(), right.mean())
    normalised = probabilities.astype(np.float64) / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    assert evaluation.loss == pytest.approx(log_loss(golden_split.labels, normalised, labels=range(10)), rel=1e-4)
    assert evaluation.accuracy <= evaluation.top_k_accuracy["2"] <= evaluation.top_k_accuracy["5"] <= 1
    assert np.trace(np.array(evaluation.confusion_matrix)) == evaluation.correct
    assert [result.n for result in evaluation.per_class] == np.bincount(golden_split.labels).tolist()


def test_cross_entropy_of_known_probabilities() -> None:
    probabilities = np.array([[0.5, 0.5], [0.25, 0.75]], np.float32)
    assert cross_entropy(probabilities, np.array([0, 1])) == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2)


def test_certain_and_wrong_costs_much_but_not_infinitely() -> None:
    assert 80 < cross_entropy(np.array([[1.0, 0.0]], np.float32), np.array([1])) < 100


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    confident = np.tile(np.array([[0.9, 0.1]], np.float32), (10, 1))
    assert calibration_error(confident, np.array([0] * 9 + [1])) == pytest.approx(0, abs=1e-6)
    assert calibration_error(confident, np.array([0] * 5 + [1] * 5)) == pytest.approx(0.4, abs=1e-6)
