"""Evaluate an artifact: run a split through it with a runtime, and compute the metrics.

Uses the published files only, never a Keras model, so that the stored numbers describe the version that serves.
"""

import time
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score

from cifar10_serving.artifacts.metadata import ClassResult, Evaluation, InputShape, SplitName
from cifar10_serving.runtimes.base import LoadedModel, Probabilities, Runtime
from training.data.dataset import Labels, Split

EVALUATION_BATCH: Final = 500
EVALUATION_BATCH_PIXELS: Final = EVALUATION_BATCH * 32 * 32
"""A batch of larger images has fewer of them, as their activations need more memory."""
CALIBRATION_BINS: Final = 15
PROBABILITY_FLOOR: Final = float(np.finfo(np.float32).tiny)
TOP_K: Final = (2, 3, 5)
MAX_MEASURED_MATRIX: Final = 1_000
"""The confusion matrix of 10,000 classes would take gigabytes, and hold almost only zeros."""


def evaluation_batch(shape: InputShape) -> int:
    """Return the number of images of this height, width and channels to compute together."""
    height, width, _ = shape
    return max(1, min(EVALUATION_BATCH, EVALUATION_BATCH_PIXELS // (height * width)))


def predict_all(model: LoadedModel, split: Split) -> Probabilities:
    """Return the probabilities (n, classes) float32 of every image of a split, in order."""
    size = evaluation_batch(split.input_shape)
    starts = range(0, len(split), size)
    return np.concatenate([model.predict(split.images[start : start + size]) for start in starts])


def evaluate(
    runtime: Runtime, model: LoadedModel, split: Split, split_name: SplitName, class_names: Sequence[str]
) -> tuple[Evaluation, Probabilities]:
    """Run a split through a loaded version; return the evaluation and the probabilities (n, classes).

    Args:
        class_names: the version's labels, in the order of its output.
    """
    start_s = time.monotonic()
    probabilities = predict_all(model, split)
    duration_s = time.monotonic() - start_s
    predicted = probabilities.argmax(axis=1)
    correct = int((predicted == split.labels).sum())
    classes = np.arange(len(class_names))
    evaluation = Evaluation(
        split=split_name,
        n=len(split),
        runtime=runtime.name,
        runtime_version=runtime.version,
        device=runtime.device,
        precision=runtime.precision,
        loss=cross_entropy(probabilities, split.labels),
        accuracy=correct / len(split),
        correct=correct,
        top_k_accuracy={
            str(k): float(top_k_accuracy_score(split.labels, probabilities, k=k, labels=classes))
            for k in TOP_K
            if k < len(classes)
        },
        expected_calibration_error=calibration_error(probabilities, split.labels),
        confusion_matrix=confusion_matrix(split.labels, predicted, labels=classes).tolist()
        if len(classes) <= MAX_MEASURED_MATRIX
        else [],
        per_class=_per_class(split.labels, predicted, class_names),
        duration_s=duration_s,
    )
    return evaluation, probabilities


def cross_entropy(probabilities: Probabilities, labels: Labels) -> float:
    """Return the mean of -log p(label) in nats, with p clipped to float32's smallest normal number.

    A higher floor would flatter an over-confident model. Keras computes its loss from the logits, without a floor.
    """
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return abs(float(np.log(np.clip(of_label, PROBABILITY_FLOOR, 1.0)).mean()))  # -0.0 would look odd


def calibration_error(probabilities: Probabilities, labels: Labels) -> float:
    """Return the expected calibration error over 15 equal-width confidence bins (Guo et al. 2017, arXiv:1706.04599)."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    gaps = [abs(correct[bins == index].sum() - confidence[bins == index].sum()) for index in range(CALIBRATION_BINS)]
    return float(sum(gaps) / len(labels))


def _per_class(labels: Labels, predicted: NDArray[np.int64], class_names: Sequence[str]) -> list[ClassResult]:
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(class_names)), zero_division=0.0
    )
    return [
        ClassResult(label=name, n=int(n), precision=float(p), recall=float(r), f1=float(f))
        for name, n, p, r, f in zip(class_names, support, precision, recall, f1, strict=True)
    ]
