"""The OpenAPI document: FastAPI's own, with the problem document's schema and with real examples.

The examples are answers of this very service: of the models that it has loaded, of a golden image, of its own
errors. So the document is complete only once loading is over, and is made anew until then.
"""

from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI

from catalog.labels import CLASS_COUNT
from catalog.responses import InvalidParameter, Liveness, Problem, Readiness
from runtime.golden import read_golden
from service.api.problems import PROBLEM_TYPE, invalid_parameters_problem, problem_of
from service.api.request_body import check_declared_size, check_type
from service.core.admission import Admission
from service.core.inference import name_classes
from service.core.repository import ModelRepository
from service.errors import DeadlineError, RequestError
from service.images import EncodedImage

JSON: Final = "application/json"
EXAMPLE_TOP_K: Final = 3

Document = dict[str, Any]


def add_openapi(app: FastAPI, repository: ModelRepository) -> None:
    """Let the application describe itself by `openapi_document`."""
    plain = app.openapi

    def openapi() -> Document:
        app.openapi_schema = None
        return openapi_document(plain(), repository)

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def openapi_document(document: Document, repository: ModelRepository) -> Document:
    """FastAPI's document with the problem document's schema and with examples."""
    problem_schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    document["components"]["schemas"] |= problem_schema.pop("$defs") | {"Problem": problem_schema}
    answers, problems = _answer_examples(repository), _problem_examples(repository)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                content = response.get("content", {})
                if status == "200" and JSON in content and path in answers:
                    content[JSON]["example"] = answers[path]
                elif PROBLEM_TYPE in content and int(status) in problems:
                    content[PROBLEM_TYPE]["example"] = problems[int(status)]
                # FastAPI's own form of a validation error is never sent.
                if status == "422" and JSON in content:
                    response["content"] = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return document


def _answer_examples(repository: ModelRepository) -> dict[str, Any]:
    examples: dict[str, Any] = {"/livez": Liveness().model_dump()}
    name = repository.default_name()
    if name is None:
        return examples
    entry = repository.find(name)
    models = repository.status()
    readiness = Readiness(ready=True, models={model.name: model.state for model in models.models})
    examples |= {
        "/readyz": readiness.model_dump(mode="json"),
        "/models": models.model_dump(mode="json"),
        "/models/{name}": repository.model_status(name).model_dump(mode="json"),
    }
    if entry.metadata is not None:
        probabilities = read_golden(entry.folder / entry.metadata.golden.file).probabilities[0]
        examples["/predict"] = name_classes(entry, probabilities, EXAMPLE_TOP_K).model_dump(mode="json")
        examples["/models/{name}/versions/{version}"] = entry.metadata.model_dump(mode="json")
    return examples


def _problem_examples(repository: ModelRepository) -> dict[int, Any]:
    full = Admission(0)
    failures: list[Callable[[], object]] = [
        lambda: EncodedImage(b"hello", max_pixels=1),
        lambda: repository.find("alexnet"),
        lambda: check_declared_size("30730206", max_body_bytes=20 * 2**20),
        lambda: check_type("text/plain"),
        full.enter,
        lambda: _raise(DeadlineError("no answer within 10 s", remedy="send less at once, or try again later")),
    ]
    problems = [_problem_from(failure) for failure in failures]
    problems.append(
        invalid_parameters_problem(
            [InvalidParameter(name="top_k", value="11", expected=f"should be less than or equal to {CLASS_COUNT}")]
        )
    )
    return {problem.status: problem.model_dump(mode="json", exclude_none=True) for problem in problems}


def _problem_from(failure: Callable[[], object]) -> Problem:
    try:
        failure()
    except RequestError as error:
        return problem_of(error)
    raise AssertionError("an example of an error raised none")


def _raise(error: RequestError) -> None:
    raise error
