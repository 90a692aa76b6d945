"""One picture, several models: they compute one after another, so that each model's timings are its own.

The repository knows the versions, and `pipeline` computes; `service.api` creates the records.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cifar10_serving.artifacts.metadata import InputShape
from cifar10_serving.runtimes.base import Images
from cifar10_serving.schemas import Agreement, Prediction, VersionState
from service.errors import RequestError, UnavailableError, UnknownModelError
from service.inference.batch_queue import Computed
from service.inference.pipeline import Deadline, Pipeline, name_classes
from service.registry.repository import ModelRepository, ModelVersion
from service.telemetry.trace import Trace

Candidate = tuple[str, int | str | None]
"""A model's name, and a version's number or label; None for the serving version."""


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


def comparable(answers: Sequence[Answered]) -> list[Prediction]:
    """Return the predictions of versions with the same labels: the largest such group, or the first of several."""
    groups: defaultdict[frozenset[str], list[Prediction]] = defaultdict(list)
    for answered in answers:
        if isinstance(answered.result, Prediction):
            groups[frozenset(answered.chosen.labels)].append(answered.result)
    return max(groups.values(), key=len, default=[])


def _replaced(version: ModelVersion) -> UnavailableError:
    return UnavailableError(f"{version} was replaced while it was asked", retry_after_s=1)


def agreement(predictions: Sequence[Prediction]) -> Agreement:
    """Return the majority's class; of several equally common ones, the one with the highest total confidence."""
    votes: defaultdict[str, list[float]] = defaultdict(list)
    for prediction in predictions:
        votes[prediction.label].append(prediction.confidence)
    label = max(votes, key=lambda name: (len(votes[name]), sum(votes[name])), default=None)
    return Agreement(label=label, models=len(votes[label]) if label else 0, of=len(predictions))
