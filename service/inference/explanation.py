"""Explanation of a prediction by occlusion sensitivity: hide a part of the picture, and measure how the class falls.

The method is by Zeiler and Fergus (https://arxiv.org/abs/1311.2901, 2013): a square in the picture's mean colour moves
over the picture. It needs only predictions, so it works with every runtime. The pictures are computed like those of
other requests, one batch at a time.
"""

import numpy as np
from numpy.typing import NDArray

from cifar10_serving.artifacts.metadata import InputShape
from cifar10_serving.runtimes.base import Images, Probabilities
from cifar10_serving.schemas import Explanation
from service.inference.pipeline import Deadline, Pipeline
from service.registry.version import ModelVersion
from service.telemetry.trace import Trace

Places = list[tuple[int, int]]
"""Top and left of each position of the square, row by row from the top left."""


async def explain(
    pipeline: Pipeline,
    chosen: ModelVersion,
    content: bytes,
    trace: Trace,
    deadline: Deadline,
    *,
    patch: int,
    stride: int,
    class_id: int | None = None,
) -> Explanation:
    """Return how much each pixel of an encoded image mattered for a class; requires an admission slot.

    Args:
        chosen: the version, leased by the caller.
        content: a file in one of `service.images.encoded.READABLE_FORMATS`.
        trace: the request's trace.
        deadline: the request's deadline.
        patch: side of the square in pixels, 1 to the smaller side of the version's input.
        stride: distance between squares in pixels, 1 to `patch`.
        class_id: the class; None for the most probable one of the whole picture.

    Raises:
        RequestError: see the tree in `service.errors`.
    """
    image = (await pipeline.decode(content, chosen.input_shape, trace, deadline))[0]
    places = patch_places(chosen.input_shape, patch, stride)
    images = occlusions(image, places, patch)
    inferred = await pipeline.infer(images, trace, deadline, leased=chosen, is_shadowed=False)
    probabilities = inferred.probabilities
    whole, hidden = probabilities[0], probabilities[1:]
    explained = int(whole.argmax()) if class_id is None else class_id
    drops = whole[explained] - hidden[:, explained]
    return Explanation(
        model=chosen.name,
        version=chosen.version,
        label=chosen.labels[explained],
        class_id=explained,
        confidence=min(1.0, max(0.0, float(whole[explained]))),
        patch_pixels=patch,
        stride_pixels=stride,
        importance=importance(drops, places, patch, chosen.input_shape).round(5).tolist(),
        images=len(probabilities),
    )


def patch_starts(side: int, patch: int, stride: int) -> list[int]:
    """Return the start positions along a side; the last patch ends at the border, so that each pixel is hidden."""
    last = side - patch
    starts = list(range(0, last + 1, stride))
    return starts if starts[-1] == last else [*starts, last]


def patch_places(shape: InputShape, patch: int, stride: int) -> Places:
    """Return each position of the square in a picture of this height and width."""
    height, width, _ = shape
    lefts = patch_starts(width, patch, stride)
    return [(top, left) for top in patch_starts(height, patch, stride) for left in lefts]


def occlusions(image: NDArray[np.uint8], places: Places, patch: int) -> Images:
    """Return the picture (height, width, 3) uint8, then once for each position with the square in its mean colour.

    The mean colour removes information and adds as little as possible; grey or black would add more.
    """
    mean_colour = image.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    images = np.repeat(image[np.newaxis], 1 + len(places), axis=0)
    for hidden, (top, left) in zip(images[1:], places, strict=True):
        hidden[top : top + patch, left : left + patch] = mean_colour
    return images


def importance(drops: Probabilities, places: Places, patch: int, shape: InputShape) -> NDArray[np.float64]:
    """Return (height, width): the mean drop (places,) over the squares that hide a pixel; 0 if none does."""
    height, width, _ = shape
    total, covering = np.zeros((height, width)), np.zeros((height, width))
    for drop, (top, left) in zip(drops.tolist(), places, strict=True):
        total[top : top + patch, left : left + patch] += drop
        covering[top : top + patch, left : left + patch] += 1
    mean: NDArray[np.float64] = total / np.maximum(1, covering)
    return mean
