"""The outputs of a frozen backbone, computed once and kept on disk for this run and the next.

A frozen backbone gives the same features for the same image in every epoch, so a head trained on kept ones ends
where it would with the backbone in the loop. Files are named by what they were computed from, replaced whole, and
memory-mapped; when to use them is `training.fit`'s part.
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
from cifar10_serving.runtimes.base import Images
from training.backend import compiles
from training.build import weights_sha256
from training.errors import BackboneWeightsError, CheckpointError
from training.preprocessing import scale
from training.progress import Progress
from training.recipes import Recipe

FEATURES_BATCH: Final = 256

Features = NDArray[np.float32]


@dataclass(frozen=True)
class KeptFeatures:
    """Features (n, width) float32 of n images, in their order; `duration_s` is 0 where they were there already."""

    values: Features
    duration_s: float


def frozen_features(
    backbone: Any, images: Images, recipe: Recipe, *, folder: Path | None, progress: Progress
) -> KeptFeatures:
    """What a frozen backbone makes of images, from the file of an earlier run where there is one.

    Args:
        backbone: a `keras.Model` from scaled images to features (batch, width).
        images: (n, 32, 32, 3) uint8.
        folder: where the file is kept; None keeps the features in memory alone.
        progress: hears how far it is.

    Raises:
        CheckpointError: the folder can't be written to; nothing half is left behind.
    """
    shape = (len(images), int(backbone.output.shape[1]))
    file = None if folder is None else folder / f"{recipe.model}-features-{_fingerprint(backbone, images, recipe)}.npy"
    kept = None if file is None else _read(file, shape)
    if kept is not None:
        progress.tell(f"using the features in {file}")
        return KeptFeatures(kept, 0.0)
    progress.tell(f"computing the frozen backbone's features of {len(images):,} images, once")
    start_s = time.monotonic()
    backbone.compile(jit_compile=compiles(recipe))
    parts = _compute(backbone, images, recipe, progress)
    if file is None:
        return KeptFeatures(np.concatenate(list(parts)), time.monotonic() - start_s)
    _write(file, shape, parts)
    return KeptFeatures(np.load(file, mmap_mode="r"), time.monotonic() - start_s)


def _fingerprint(backbone: Any, images: Images, recipe: Recipe) -> str:
    digest = hashlib.sha256(images.tobytes())
    made_by = recipe.model_dump_json(include={"model", "input_scaling", "upsample_to", "precision"})
    digest.update(f"{made_by} {weights_sha256(backbone)}".encode())
    return digest.hexdigest()[:16]


def _read(file: Path, shape: tuple[int, int]) -> Features | None:
    try:
        values: Features = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None  # not there, or damaged: computed anew
    return values if values.shape == shape and values.dtype == np.float32 else None


def _compute(backbone: Any, images: Images, recipe: Recipe, progress: Progress) -> Iterator[Features]:
    progress.start("features", len(images))
    for start in range(0, len(images), FEATURES_BATCH):
        chunk = scale(images[start : start + FEATURES_BATCH], recipe.input_scaling)
        features = np.asarray(backbone.predict_on_batch(chunk), np.float32)
        if not np.isfinite(features).all():
            raise BackboneWeightsError(
                "the backbone's features are not finite numbers",
                expected="weights and an input scaling that suit each other",
                remedy="look at where the weights come from, and at the recipe's input_scaling",
            )
        yield features
        progress.advance(len(chunk))


def _write(file: Path, shape: tuple[int, int], parts: Iterator[Features]) -> None:
    """Write through a plain file: a memory-mapped one kills the process where the disk is full."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(file) as stream:
            np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
            for part in parts:
                stream.write(part.tobytes())
    except OSError as error:
        raise CheckpointError(
            f"can't write {file}: {error.strerror}",
            expected=f"a folder with room for {shape[0] * shape[1] * 4:,} bytes that this user may write to",
            remedy="make room, or give another folder with --checkpoints",
        ) from None
