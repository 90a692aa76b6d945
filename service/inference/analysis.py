"""Analyses of one picture: several models compared, and one prediction explained.

Compared models compute one after another, so that each model's timings are its own. The repository knows the versions,
and `pipeline` computes; `service.api` creates the records.

An explanation is by occlusion sensitivity: hide a part of the picture, and measure how the class falls. The method is
by Zeiler and Fergus (https://arxiv.org/abs/1311.2901, 2013): a square in the picture's mean colour moves over the
picture. It needs only predictions, so it works with every runtime. The pictures are computed like those of other
requests, one batch at a time.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cifar10_serving.artifacts.metadata import InputShape
from cifar10_serving.runtimes.base import Images, Probabilities
from cifar10_serving.schemas import Agreement, Explanation, Prediction, VersionState
from service.errors import RequestError, UnavailableError, UnknownModelError
from service.inference.pipeline import Deadline, Pipeline, name_classes
from service.inference.scheduler import Computed
from service.registry.repository import ModelRepository
from service.registry.version import ModelVersion
from service.telemetry.trace import Trace

Candidate = tuple[str, int | str | None]
"""A model's name, and a version's number or label; None for the serving version."""


Places = list[tuple[int, int]]
"""Top and left of each position of the square, row by row from the top left."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A version's answer, or its error; `computed` is None for an error."""

    chosen: ModelVersion
    result: Prediction | RequestError
    computed: Computed | None


def candidates(repository: ModelRepository, asked: Sequence[Candidate]) -> list[ModelVersion]:
    """Return the versions to compare: the requested ones, or one of each ready model.

    Raises:
        UnknownModelError: a requested one does not exist or does not serve.
        UnavailableError: a requested one is not ready, or nothing is.
    """
    if asked:
        return [repository.find(name, version) for name, version in dict.fromkeys(asked)]
    repository.find()
    chosen = []
    for name, state in repository.readiness().models.items():
        if state is VersionState.READY:
            try:
                chosen.append(repository.find(name))
            except UnknownModelError:  # withdrawn in between
                continue
    return chosen or [repository.find()]


async def decode_for(
    pipeline: Pipeline, content: bytes, versions: Sequence[ModelVersion], trace: Trace, deadline: Deadline
) -> dict[InputShape, Images]:
    """Return a picture's pixels (1, height, width, 3) uint8 RGB 0..255, once for each input size of the versions.

    Args:
        trace: the request's trace, which gets the total time.

    Raises:
        RequestError: it can't be decoded, or not in time.
    """
    pixels: dict[InputShape, Images] = {}
    decode_s = 0.0
    for shape in dict.fromkeys(version.input_shape for version in versions):
        pixels[shape] = await pipeline.decode(content, shape, trace, deadline)
        decode_s += trace.decode_s or 0.0
    trace.decode_s = decode_s
    return pixels


async def compare(
    pipeline: Pipeline,
    pixels: Mapping[InputShape, Images],
    versions: Sequence[ModelVersion],
    *,
    top_k: int,
    deadline: Deadline,
) -> list[Answered]:
    """Return each version's answer for one picture; requires an admission slot.

    Args:
        pixels: the result of `decode_for` for these versions.
        versions: the versions, in the order in which they compute.
        top_k: number of classes for each, from 1; all if a version has fewer.
        deadline: the deadline for all versions; those that miss it have an error.
    """
    answers = []
    for version in versions:
        trace = Trace()
        result: Prediction | RequestError
        try:
            with pipeline.lease(trace, model=version.name, version=version.version) as chosen:
                if chosen.input_shape not in pixels:
                    raise _replaced(chosen)
                inferred = await pipeline.infer(pixels[chosen.input_shape], trace, deadline, leased=chosen)
            result = name_classes(chosen, inferred.probabilities[0], top_k)
        except RequestError as error:
            result = error
        answers.append(Answered(version, result, trace.computed))
    return answers


def comparable(answers: Sequence[Answered]) -> tuple[list[Prediction], list[ModelVersion]]:
    """Return the predictions that can be compared by their labels' texts, and the versions of all others.

    Versions that have a label in common are one group, even through a third one. The largest group is compared, or the
    first of several; versions with an error belong to no group.
    """
    predictions = {place: each.result for place, each in enumerate(answers) if isinstance(each.result, Prediction)}
    groups: list[tuple[frozenset[str], set[int]]] = []
    for place in predictions:
        labels, places = answers[place].chosen.label_set, {place}
        sharing = [group for group in groups if not labels.isdisjoint(group[0])]
        for group in sharing:
            labels, places = labels | group[0], places | group[1]
        groups = [*(group for group in groups if group not in sharing), (labels, places)]
    compared = max((places for _, places in groups), key=lambda places: (len(places), -min(places)), default=set())
    return (
        [result for place, result in predictions.items() if place in compared],
        [answers[place].chosen for place in predictions if place not in compared],
    )


def _replaced(version: ModelVersion) -> UnavailableError:
    return UnavailableError(f"{version} was replaced while it was asked", retry_after_s=1)


def agreement(predictions: Sequence[Prediction]) -> Agreement:
    """Return the majority's class; of several equally common ones, the one with the highest total confidence."""
    votes: defaultdict[str, list[float]] = defaultdict(list)
    for prediction in predictions:
        votes[prediction.label].append(prediction.confidence)
    label = max(votes, key=lambda name: (len(votes[name]), sum(votes[name])), default=None)
    return Agreement(label=label, models=len(votes[label]) if label else 0, of=len(predictions))


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
