"""Compute a frozen backbone's features once, and cache them on disk for later runs.

A frozen backbone gives the same features for the same image in every epoch, so training the head on cached features
gives the same result as training it with the backbone. File names contain a hash of the inputs; files are replaced
atomically and memory-mapped. `training.fit` decides when to use them.
"""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cifar10_serving.artifacts.files import replaced_file
from training.backend import compiles
from training.build import weights_sha256
from training.data.dataset import StoredImages, blocks
from training.errors import BackboneWeightsError, CheckpointError
from training.preprocessing import scale
from training.progress import Progress
from training.recipes import Recipe

FEATURES_BATCH: Final = 256

Features = NDArray[np.float32]


@dataclass(frozen=True)
class KeptFeatures:
    """Features (n, width) float32 of n images, in order; `duration_s` is 0 if they came from the cache."""

    values: Features
    duration_s: float


def frozen_features(
    backbone: Any, images: StoredImages, recipe: Recipe, *, folder: Path | None, progress: Progress
) -> KeptFeatures:
    """Return a frozen backbone's features of the images, from an earlier run's file if there is one.

    Args:
        backbone: a `keras.Model` from scaled images to features (batch, width).
        images: (n, height, width, 3) uint8.
        folder: holds the file; None keeps the features in memory only.
        progress: is notified of the progress.

    Raises:
        CheckpointError: the folder can't be written to; no incomplete file is left behind.
    """
    shape = (len(images), int(backbone.output.shape[1]))
    file = None if folder is None else folder / f"{recipe.model}-features-{_fingerprint(backbone, images, recipe)}.npy"
    kept = None if file is None else _read(file, shape)
    if kept is not None:
        progress.tell(f"using cached features in {file}")
        return KeptFeatures(kept, 0.0)
    progress.tell(f"computing the frozen backbone's features of {len(images):,} images")
    start_s = time.monotonic()
    backbone.compile(jit_compile=compiles(recipe))
    parts = _compute(backbone, images, recipe, progress)
    if file is None:
        return KeptFeatures(np.concatenate(list(parts)), time.monotonic() - start_s)
    _write(file, shape, parts)
    return KeptFeatures(np.load(file, mmap_mode="r"), time.monotonic() - start_s)


def _fingerprint(backbone: Any, images: StoredImages, recipe: Recipe) -> str:
    digest = hashlib.sha256()
    for block in blocks(images):
        digest.update(np.ascontiguousarray(block).data)
    made_by = recipe.model_dump_json(include={"model", "input_scaling", "upsample_to", "precision"})
    digest.update(f"{made_by} {weights_sha256(backbone)}".encode())
    return digest.hexdigest()[:16]


def _read(file: Path, shape: tuple[int, int]) -> Features | None:
    try:
        values: Features = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None  # missing or damaged: compute it again
    return values if values.shape == shape and values.dtype == np.float32 else None


def _compute(backbone: Any, images: StoredImages, recipe: Recipe, progress: Progress) -> Iterator[Features]:
    progress.start("features", len(images))
    for start in range(0, len(images), FEATURES_BATCH):
        chunk = scale(images[start : start + FEATURES_BATCH], recipe.input_scaling)
        features = np.asarray(backbone.predict_on_batch(chunk), np.float32)
        if not np.isfinite(features).all():
            raise BackboneWeightsError(
                "the backbone's features are not finite numbers",
                expected="weights that match the recipe's input scaling",
                remedy="check the source of the weights, and the recipe's input_scaling",
            )
        yield features
        progress.advance(len(chunk))


def _write(file: Path, shape: tuple[int, int], parts: Iterator[Features]) -> None:
    """Write to a plain file: with a memory-mapped file, a full disk would kill the process."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(file) as stream:
            np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
            for part in parts:
                stream.write(part.tobytes())
    except OSError as error:
        raise CheckpointError(
            f"can't write {file}: {error.strerror}",
            expected=f"a writable folder with {shape[0] * shape[1] * 4:,} bytes of free space",
            remedy="free up space, or choose another folder with --checkpoints",
        ) from None
