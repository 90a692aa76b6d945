"""The SavedModel as used by the alternatives: TensorFlow's signature, images decoded by Pillow.

It is shared, so that the alternatives differ only in their server. Nothing here is tuned for one of them.
"""

import io
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

FOLDER_VARIABLE = "BENCH_SAVED_MODEL"
"""The environment variable that names the version's folder."""
IMAGES = "images"
"""The signature's input that takes pixels."""


class SavedModel:
    """The signature `serving_default` of a SavedModel, called as in TensorFlow's guide.

    https://www.tensorflow.org/guide/saved_model, "Loading and using a custom model"
    """

    def __init__(self, folder: Path) -> None:
        import tensorflow as tf

        self._constant = tf.constant
        self._loaded = tf.saved_model.load(str(folder))
        self._signature = self._loaded.signatures["serving_default"]
        self.predict(np.zeros((1, *input_shape()), np.uint8))

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities (n, classes) for images (n, height, width, 3) in RGB."""
        outputs = self._signature(images=self._constant(images))
        return np.asarray(outputs["probabilities"].numpy(), np.float32)


def load_saved_model() -> SavedModel:
    """Load the SavedModel whose folder the environment names."""
    return SavedModel(Path(os.environ[FOLDER_VARIABLE]))


def decode(content: bytes) -> NDArray[np.uint8]:
    """Decode an image to pixels of the model's input size, (height, width, 3)."""
    with Image.open(io.BytesIO(content)) as image:
        return pixels(image)


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of an image's middle in the model's input size, (height, width, 3).

    https://pillow.readthedocs.io/en/stable/reference/ImageOps.html, "Resize relative to a given size": `fit`.
    """
    rgb = image.convert("RGB")
    height, width, _ = input_shape()
    return np.asarray(rgb if rgb.size == (width, height) else ImageOps.fit(rgb, (width, height)))


def answer(probabilities: NDArray[np.float32]) -> dict[str, Any]:
    """Build the answer for one image from its probabilities (classes,)."""
    class_id = int(probabilities.argmax())
    return {"label": _labels()[class_id], "class_id": class_id, "confidence": float(probabilities[class_id])}


@cache
def input_shape() -> tuple[int, int, int]:
    """Return the height, width and channels of the images that the model takes."""
    tensor = next(tensor for spec in _metadata()["signatures"] for tensor in spec["inputs"] if tensor["name"] == IMAGES)
    _, height, width, channels = tensor["shape"]
    return height, width, channels


@cache
def _labels() -> list[str]:
    labels: list[str] = _metadata()["labels"]
    return labels


@cache
def _metadata() -> dict[str, Any]:
    file = Path(os.environ[FOLDER_VARIABLE]) / "metadata.json"
    metadata: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return metadata
