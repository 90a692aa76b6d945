"""What mattered to a model, by occlusion sensitivity: hide a part of the picture, see how far the class falls.

The method is Zeiler and Fergus's (https://arxiv.org/abs/1311.2901, 2013): a square of the picture's mean colour slides
over it. It needs nothing of a model but its answers, so it works with every runtime; the pictures are computed as any
other request's, a batch at a time.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from cifar10_serving.artifacts.labels import CLASS_NAMES, IMAGE_SHAPE
from cifar10_serving.runtimes.base import Images, Probabilities
from cifar10_serving.schemas import Explanation
from service.inference.pipeline import Deadline, Pipeline
from service.registry.version import ModelVersion
from service.telemetry.trace import Trace

SIDE: Final = IMAGE_SHAPE[0]

Masks = NDArray[np.bool_]
"""(patches, 32, 32): True where a patch hides."""


async def explain(
    pipeline: Pipeline,
    content: bytes,
    trace: Trace,
    deadline: Deadline,
    *,
    model: str | None = None,
    version: int | str | None = None,
    patch: int,
    stride: int,
    class_id: int | None = None,
) -> Explanation:
    """Return how much each pixel of an encoded image mattered for a class; called while admitted.

    Args:
        content: a file in one of `service.images.encoded.READABLE_FORMATS`.
        trace: of the request.
        deadline: of the answer.
        model: None for the default model.
        version: a number or a label; None for the one that answers where none is asked for.
        patch: side of the square in pixels, 1 to 32.
        stride: from one square to the next in pixels, 1 to `patch`.
        class_id: which class; None for the most probable one of the whole picture.

    Raises:
        RequestError: see the tree in `service.errors`.
    """
    image = (await pipeline.decode(content, trace, deadline))[0]
    inferred = await pipeline.infer(
        occlusions(image, patch, stride), trace, deadline, model=model, version=version, is_shadowed=False
    )
    return explanation(inferred.version, inferred.probabilities, patch=patch, stride=stride, class_id=class_id)


def occlusions(image: NDArray[np.uint8], patch: int, stride: int) -> Images:
    """(1 + patches, 32, 32, 3) uint8: the whole picture, then with each patch hidden; to be computed by a model."""
    return np.concatenate([image[None], occluded(image, patch_masks(patch, stride))])


def explanation(
    chosen: ModelVersion, probabilities: Probabilities, *, patch: int, stride: int, class_id: int | None = None
) -> Explanation:
    """What the probabilities (1 + patches, 10) of `occlusions` say; None explains the whole picture's class."""
    whole, hidden = probabilities[0], probabilities[1:]
    explained = int(whole.argmax()) if class_id is None else class_id
    drops = whole[explained] - hidden[:, explained]
    return Explanation(
        model=chosen.name,
        version=chosen.version,
        label=CLASS_NAMES[explained],
        class_id=explained,
        confidence=min(1.0, max(0.0, float(whole[explained]))),
        patch_pixels=patch,
        stride_pixels=stride,
        importance=importance(drops, patch_masks(patch, stride)).round(5).tolist(),
        images=len(probabilities),
    )


def patch_starts(patch: int, stride: int) -> list[int]:
    """Where patches begin along a side; the last one ends at the border, so that each pixel is hidden at least once."""
    last = SIDE - patch
    starts = list(range(0, last + 1, stride))
    return starts if starts[-1] == last else [*starts, last]


def patch_masks(patch: int, stride: int) -> Masks:
    """One mask for each place of the square, from the top left, row after row."""
    starts = patch_starts(patch, stride)
    masks = np.zeros((len(starts), len(starts), SIDE, SIDE), np.bool_)
    for row, top in enumerate(starts):
        for column, left in enumerate(starts):
            masks[row, column, top : top + patch, left : left + patch] = True
    return masks.reshape(-1, SIDE, SIDE)


def occluded(image: NDArray[np.uint8], masks: Masks) -> Images:
    """The picture (32, 32, 3) uint8, once for each mask, with its own mean colour where the mask hides it.

    The mean colour and not grey or black: a patch should take something away and put as little as possible in.
    """
    mean_colour = image.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    return np.where(masks[..., None], mean_colour, image)


def importance(drops: Probabilities, masks: Masks) -> NDArray[np.float64]:
    """(32, 32): the mean drop (patches,) over the patches that hide a pixel; 0 where none does."""
    total = np.tensordot(drops.astype(np.float64), masks.astype(np.float64), axes=1)
    covering: NDArray[np.float64] = np.maximum(1, masks.sum(axis=0)).astype(np.float64)
    mean: NDArray[np.float64] = total / covering
    return mean
