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
SIZE = (32, 32)


class SavedModel:
    """The signature `serving_default` of a SavedModel, called as in TensorFlow's guide.

    https://www.tensorflow.org/guide/saved_model, "Loading and using a custom model"
    """

    def __init__(self, folder: Path) -> None:
        import tensorflow as tf

        self._constant = tf.constant
        self._loaded = tf.saved_model.load(str(folder))
        self._signature = self._loaded.signatures["serving_default"]
        self.predict(np.zeros((1, 32, 32, 3), np.uint8))

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities (n, classes) for images (n, 32, 32, 3) in RGB."""
        outputs = self._signature(images=self._constant(images))
        return np.asarray(outputs["probabilities"].numpy(), np.float32)


def load_saved_model() -> SavedModel:
    """Load the SavedModel whose folder the environment names."""
    return SavedModel(Path(os.environ[FOLDER_VARIABLE]))


def decode(content: bytes) -> NDArray[np.uint8]:
    """Decode an image to pixels (32, 32, 3)."""
    with Image.open(io.BytesIO(content)) as image:
        return pixels(image)


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels (32, 32, 3) of an image's middle.

    https://pillow.readthedocs.io/en/stable/reference/ImageOps.html, "Resize relative to a given size": `fit`.
    """
    rgb = image.convert("RGB")
    return np.asarray(rgb if rgb.size == SIZE else ImageOps.fit(rgb, SIZE))


def answer(probabilities: NDArray[np.float32]) -> dict[str, Any]:
    """Build the answer for one image from its probabilities (classes,)."""
    class_id = int(probabilities.argmax())
    return {"label": _labels()[class_id], "class_id": class_id, "confidence": float(probabilities[class_id])}


@cache
def _labels() -> list[str]:
    metadata = Path(os.environ[FOLDER_VARIABLE]) / "metadata.json"
    labels: list[str] = json.loads(metadata.read_text(encoding="utf-8"))["labels"]
    return labels
