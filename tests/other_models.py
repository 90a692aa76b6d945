"""Models that the project does not know: a renamed one, and small ones with any labels and input size."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from cifar10_serving.artifacts.layout import METADATA_FILE, publish, read_metadata, staging_folder, version_folder
from cifar10_serving.artifacts.metadata import ClassResult, Evaluation, Golden, ModelMetadata, SignatureSpec, TensorSpec
from cifar10_serving.runtimes.golden import GoldenAnswers
from tests.conftest import MODELS, newest_version

GOLDEN_IMAGES = 4


def publish_renamed(models: Path, name: str, title: str, *, source: str = "sequential") -> ModelMetadata:
    """Publish the newest version of a shipped model under another name; only its metadata changes."""
    folder = version_folder(MODELS, source, newest_version(source))
    metadata = read_metadata(folder).model_copy(update={"name": name, "title": title})
    with staging_folder(models, name) as staging:
        shutil.copytree(folder, staging, dirs_exist_ok=True, ignore=shutil.ignore_patterns(METADATA_FILE))
        return publish(staging, metadata, models)


def publish_classifier(models: Path, name: str, labels: Sequence[str], height: int, width: int) -> ModelMetadata:
    """Publish a network that uses only the mean colour: a version with any labels and input size."""
    network = _MeanColour(len(labels), height, width)
    images = np.random.default_rng(height).integers(0, 256, (GOLDEN_IMAGES, 1, 1, 3), np.uint8)
    images = np.ascontiguousarray(np.broadcast_to(images, (GOLDEN_IMAGES, height, width, 3)))
    probabilities = network.serving_default(tf.constant(images))["probabilities"].numpy()
    with staging_folder(models, name) as staging:
        tf.saved_model.save(network, str(staging), signatures={"serving_default": network.serving_default})
        GoldenAnswers(images, probabilities.argmax(axis=1).astype(np.int64), probabilities).save(staging / "golden.npz")
        return publish(staging, _metadata(name, labels, height, width), models)


class _MeanColour(tf.Module):  # type: ignore[misc]
    def __init__(self, classes: int, height: int, width: int) -> None:
        super().__init__()
        self._weights = np.random.default_rng(classes).normal(0, 8, (3, classes)).astype(np.float32)
        images = tf.TensorSpec((None, height, width, 3), tf.uint8, name="images")
        self.serving_default = tf.function(self._classify, input_signature=[images])

    def _classify(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        colours = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 2]) / 255.0
        return {"probabilities": tf.nn.softmax(tf.linalg.matmul(colours, tf.constant(self._weights)))}


def _metadata(name: str, labels: Sequence[str], height: int, width: int) -> ModelMetadata:
    shipped = read_metadata(version_folder(MODELS, "sequential", newest_version("sequential")))
    count = len(labels)
    tested = next(entry for entry in shipped.evaluations if (entry.split, entry.precision) == ("test", "float32"))
    evaluation = Evaluation.model_validate(
        tested.model_dump()
        | {
            "n": count,
            "correct": count,
            "accuracy": 1.0,
            "confusion_matrix": np.eye(count, dtype=int).tolist(),
            "per_class": [ClassResult(label=label, n=1, precision=1, recall=1, f1=1).model_dump() for label in labels],
        }
    )
    signature = SignatureSpec(
        name="serving_default",
        inputs=[TensorSpec(name="images", dtype="uint8", shape=[-1, height, width, 3], description="RGB, 0..255")],
        outputs=[TensorSpec(name="probabilities", dtype="float32", shape=[-1, count], description="softmax")],
    )
    return ModelMetadata.model_validate(
        shipped.model_dump()
        | {
            "name": name,
            "title": f"{name}, made up",
            "labels": list(labels),
            "signatures": [signature.model_dump()],
            "evaluations": [evaluation.model_dump()],
            "golden": Golden(file="golden.npz", n=GOLDEN_IMAGES, tolerance={"float32": 0.001}).model_dump(),
            "dataset": shipped.measured_data.model_dump() | {"name": "Leaves"},
            "plots": {},
        }
    )
