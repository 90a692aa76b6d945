"""From a version's probabilities to the answer for one image: the most probable classes, by name."""

from typing import Any, Final

import orjson

from catalog.labels import CLASS_NAMES
from catalog.responses import Prediction
from runtime.base import Probabilities

CLASSES: Final = range(len(CLASS_NAMES))


def top_classes(probabilities: Probabilities, top_k: int) -> list[tuple[int, float]]:
    """Return the most probable classes of one image with their probabilities; ties go to the lower class number.

    Args:
        probabilities: (classes,) float32; what rounding took past 0 or 1 is put back.
        top_k: how many, from 1.
    """
    values: list[float] = probabilities.tolist()
    best = sorted(CLASSES, key=values.__getitem__, reverse=True)[:top_k]
    return [(index, min(1.0, max(0.0, values[index]))) for index in best]


def prediction_document(model: str, version: int, probabilities: Probabilities, top_k: int) -> dict[str, Any]:
    """Return a `catalog.responses.Prediction` as JSON's types."""
    top = [
        {"label": CLASS_NAMES[index], "class_id": index, "probability": value}
        for index, value in top_classes(probabilities, top_k)
    ]
    best = top[0]
    return {
        "model": model,
        "version": version,
        "label": best["label"],
        "class_id": best["class_id"],
        "confidence": best["probability"],
        "top": top,
    }


def encode_prediction(model: str, version: int, probabilities: Probabilities, top_k: int) -> bytes:
    """Return the answer for one image as JSON."""
    return orjson.dumps(prediction_document(model, version, probabilities, top_k))


def name_classes(model: str, version: int, probabilities: Probabilities, top_k: int) -> Prediction:
    """Return the answer for one image as a record."""
    return Prediction.model_validate(prediction_document(model, version, probabilities, top_k))
