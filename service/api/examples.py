"""The examples in the OpenAPI document: answers of this very service, and errors that its own code raises.

Computed with the models that it has loaded, from a golden image.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from catalog.errors import ProjectError
from catalog.labels import CLASS_COUNT
from catalog.metadata import Record
from catalog.responses import BatchPrediction, BatchResult, InvalidParameter, Liveness, Problem
from runtime.base import Images
from runtime.golden import read_golden
from service.api.batch import BATCH_PATH
from service.api.compare import COMPARE_PATH, comparison
from service.api.content_type import check_type
from service.api.explain import EXPLAIN_PATH, check_occlusions
from service.api.multipart_form import files_of_form
from service.api.predict import PATH as PREDICT
from service.api.problems import problem_of
from service.api.request_body import check_declared_size, not_a_form, upload_timeout
from service.api.statistics import STATISTICS_PATH
from service.core.admission import Admission
from service.core.batch_queue import Computed
from service.core.comparison import Answered, candidates
from service.core.explanation import explanation, occlusions
from service.core.inference import deadline_passed, name_classes
from service.core.repository import ModelRepository, ModelVersion
from service.errors import InvalidParameterError, RequestError, UnavailableError
from service.images import EncodedImage, encode_png
from service.settings import Settings
from service.statistics import Statistics

EXAMPLE_TOP_K: Final = 3
EXAMPLE_PATCH: Final = 16
VERSION: Final = "/models/{name}/versions/{version}"
PLOT: Final = VERSION + "/plots/{plot}"
TAKE_AN_IMAGE: Final = (PREDICT, BATCH_PATH, COMPARE_PATH, EXPLAIN_PATH)


def answer_examples(repository: ModelRepository, statistics: Statistics) -> dict[str, Any]:
    """Path -> what it answers."""
    examples: dict[str, Any] = {
        "/livez": Liveness().model_dump(),
        "/readyz": repository.readiness().model_dump(mode="json"),
        "/models": repository.status().model_dump(mode="json"),
        STATISTICS_PATH: statistics.now().model_dump(mode="json"),
    }
    try:
        with repository.lease() as entry:
            examples["/models/{name}"] = repository.model_status(entry.name).model_dump(mode="json")
            if entry.metadata is not None:
                examples[VERSION] = entry.metadata.model_dump(mode="json")
                golden = read_golden(entry.folder / entry.metadata.golden.file)
                examples |= _predictions(repository, entry, golden.images[0])
    except ProjectError:  # nothing is ready yet, or it was taken away at this moment: an example less
        return examples
    return examples


def _predictions(repository: ModelRepository, entry: ModelVersion, image: NDArray[np.uint8]) -> dict[str, Any]:
    content = encode_png(image)
    start_s = time.monotonic()
    image = EncodedImage(content, max_pixels=image.size).decode()
    decode_s = time.monotonic() - start_s
    answers = [_answered(version, image) for version in candidates(repository, [])]
    prediction = name_classes(entry, _computed(entry, image[None]).probabilities[0], EXAMPLE_TOP_K)
    batch = BatchPrediction(
        model=entry.name,
        version=entry.version,
        results=[
            BatchResult(name="cat.png", prediction=prediction),
            BatchResult(name="notes.txt", error=_problem_from(lambda: check_type("text/plain"))),
        ],
    )
    hidden = _computed(entry, occlusions(image, EXAMPLE_PATCH, EXAMPLE_PATCH)).probabilities
    records: dict[str, Record] = {
        PREDICT: prediction,
        BATCH_PATH: batch,
        COMPARE_PATH: comparison(answers, image, decode_s),
        EXPLAIN_PATH: explanation(entry, hidden, patch=EXAMPLE_PATCH, stride=EXAMPLE_PATCH),
    }
    return {path: record.model_dump(mode="json") for path, record in records.items()}


def _answered(version: ModelVersion, image: NDArray[np.uint8]) -> Answered:
    computed = _computed(version, image[None])
    return Answered(version, name_classes(version, computed.probabilities[0], EXAMPLE_TOP_K), computed)


def _computed(version: ModelVersion, images: Images) -> Computed:
    """Computed in place, past the queue: the document is made once, and must not wait for anybody."""
    model = version.model
    if model is None:
        raise UnavailableError(f"{version} was withdrawn", retry_after_s=1)
    start_s = time.monotonic()
    probabilities = model.predict(images)
    return Computed(probabilities, 0.0, time.monotonic() - start_s, len(images))


def problem_examples(repository: ModelRepository, settings: Settings) -> dict[tuple[str, int], Any]:
    """Path and status -> a problem document."""

    def unknown_model() -> object:
        return repository.find("alexnet")

    too_long = str(settings.max_body_bytes * 3)
    overloaded = Admission(settings.max_pending_requests, settings.max_pending_bytes).overloaded(
        settings.max_pending_requests
    )
    of_image_routes: list[Callable[[], object]] = [
        lambda: EncodedImage(b"hello", max_pixels=1),
        lambda: check_declared_size(too_long, max_body_bytes=settings.max_body_bytes),
        lambda: check_type("text/plain"),
        lambda: _raise(upload_timeout(settings.upload_timeout_s)),
        lambda: _raise(deadline_passed(settings.request_timeout_s)),
        lambda: _raise(overloaded),
        unknown_model,
    ]
    failures = [
        *((path, failure) for path in TAKE_AN_IMAGE for failure in of_image_routes),
        *((path, unknown_model) for path in ("/models/{name}", VERSION, PLOT)),
        (BATCH_PATH, lambda: files_of_form(b"--x--", {"boundary": "x"}, most_files=1)),
        (BATCH_PATH, lambda: _raise(not_a_form("image/png"))),
        (EXPLAIN_PATH, lambda: check_occlusions(4, 8, most_images=settings.max_request_rows)),
    ]
    top_k = ("top_k", "11", f"should be less than or equal to {CLASS_COUNT}")
    version = ("version", "0", "should be greater than or equal to 1")
    invalid = {PREDICT: top_k, BATCH_PATH: top_k, COMPARE_PATH: top_k, VERSION: version, PLOT: version}
    for path, (name, value, expected) in invalid.items():
        error = InvalidParameterError([InvalidParameter(name=name, value=value, expected=expected)])
        failures.append((path, partial(_raise, error)))
    problems = [(path, _problem_from(failure)) for path, failure in failures]
    return {(path, problem.status): problem.model_dump(mode="json", exclude_none=True) for path, problem in problems}


def _problem_from(failure: Callable[[], object]) -> Problem:
    try:
        failure()
    except RequestError as error:
        return problem_of(error)
    raise AssertionError("an example of an error raised none")


def _raise(error: RequestError) -> None:
    raise error
