"""The OpenAPI document: FastAPI's own, with the problem document's schema and with real examples.

The examples are answers of this very service: of the models that it has loaded, of a golden image, of errors
that its own code raises. The document is made anew when the versions that serve have changed.
"""

from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from catalog.errors import ProjectError
from catalog.labels import CLASS_COUNT
from catalog.responses import InvalidParameter, Liveness, Problem, VersionState
from runtime.golden import read_golden
from service.api.content_type import check_type
from service.api.problems import PROBLEM_TYPE, problem_of
from service.api.request_body import check_declared_size, upload_timeout
from service.core.admission import Admission
from service.core.inference import deadline_passed, name_classes
from service.core.repository import ModelRepository
from service.errors import InvalidParameterError, RequestError
from service.images import EncodedImage
from service.settings import Settings

JSON: Final = "application/json"
EXAMPLE_TOP_K: Final = 3
PREDICT: Final = "/predict"
VERSION: Final = "/models/{name}/versions/{version}"
PLOT: Final = VERSION + "/plots/{plot}"

Document = dict[str, Any]


def add_openapi(app: FastAPI, repository: ModelRepository, settings: Settings) -> None:
    """Let the application describe itself by `openapi_document`."""
    kept: dict[int, Document] = {}

    def openapi() -> Document:
        generation = repository.generation
        if generation in kept:
            return kept[generation]
        plain = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        document = openapi_document(plain, repository, settings)
        if repository.is_loaded:
            kept.clear()
            kept[generation] = document
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def openapi_document(document: Document, repository: ModelRepository, settings: Settings) -> Document:
    """FastAPI's document with the problem document's schema and with examples."""
    schemas = document["components"]["schemas"]
    problem_schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem_schema.pop("$defs") | {"Problem": problem_schema}
    for never_sent in ("HTTPValidationError", "ValidationError"):
        schemas.pop(never_sent, None)
    answers, problems = _answer_examples(repository), _problem_examples(repository, settings)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            responses = operation["responses"]
            if JSON in responses.get("422", {}).get("content", {}):
                del responses["422"]  # FastAPI adds it wherever there is a parameter, in a form that is never sent
            for status, response in responses.items():
                content = response.get("content", {})
                if status == "200" and JSON in content and path in answers:
                    content[JSON]["example"] = answers[path]
                elif PROBLEM_TYPE in content and (path, int(status)) in problems:
                    content[PROBLEM_TYPE]["example"] = problems[path, int(status)]
    return document


def _answer_examples(repository: ModelRepository) -> dict[str, Any]:
    models = repository.status()
    examples: dict[str, Any] = {
        "/livez": Liveness().model_dump(),
        "/readyz": repository.readiness().model_dump(mode="json"),
        "/models": models.model_dump(mode="json"),
    }
    ready = [model for model in models.models if model.state is VersionState.READY]
    name = min(ready, key=lambda model: not model.default).name if ready else None
    if name is None:
        return examples
    try:
        entry = repository.find(name)
        examples["/models/{name}"] = repository.model_status(name).model_dump(mode="json")
        if entry.metadata is not None:
            examples[VERSION] = entry.metadata.model_dump(mode="json")
            probabilities = read_golden(entry.folder / entry.metadata.golden.file).probabilities[0]
            examples[PREDICT] = name_classes(entry, probabilities, EXAMPLE_TOP_K).model_dump(mode="json")
    except ProjectError:  # taken away at this moment, or since it was loaded: an example less
        return examples
    return examples


def _problem_examples(repository: ModelRepository, settings: Settings) -> dict[tuple[str, int], Any]:
    def unknown_model() -> object:
        return repository.find("alexnet")

    too_long = str(settings.max_body_bytes * 3)
    failures: list[tuple[str, Callable[[], object]]] = [
        (PREDICT, lambda: EncodedImage(b"hello", max_pixels=1)),
        (PREDICT, lambda: check_declared_size(too_long, max_body_bytes=settings.max_body_bytes)),
        (PREDICT, lambda: check_type("text/plain")),
        (PREDICT, lambda: _raise(upload_timeout(settings.upload_timeout_s))),
        (PREDICT, lambda: _raise(deadline_passed(settings.request_timeout_s))),
        (
            PREDICT,
            lambda: _raise(
                Admission(settings.max_pending_requests, settings.max_pending_bytes).overloaded(
                    settings.max_pending_requests
                )
            ),
        ),
        *((path, unknown_model) for path in (PREDICT, "/models/{name}", VERSION, PLOT)),
    ]
    problems = [(path, _problem_from(failure)) for path, failure in failures]
    for path, parameter, value, expected in (
        (PREDICT, "top_k", "11", f"should be less than or equal to {CLASS_COUNT}"),
        (VERSION, "version", "0", "should be greater than or equal to 1"),
        (PLOT, "version", "0", "should be greater than or equal to 1"),
    ):
        invalid = InvalidParameter(name=parameter, value=value, expected=expected)
        problems.append((path, problem_of(InvalidParameterError([invalid]))))
    return {(path, problem.status): problem.model_dump(mode="json", exclude_none=True) for path, problem in problems}


def _problem_from(failure: Callable[[], object]) -> Problem:
    try:
        failure()
    except RequestError as error:
        return problem_of(error)
    raise AssertionError("an example of an error raised none")


def _raise(error: RequestError) -> None:
    raise error
