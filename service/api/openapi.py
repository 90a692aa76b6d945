"""The OpenAPI document: FastAPI's own, with the problem document's schema and with real examples.

What the examples are is `examples`' part. The document is made anew when the versions that serve have changed.
"""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from catalog.responses import Problem
from service.api.examples import answer_examples, problem_examples
from service.api.problems import PROBLEM_TYPE
from service.core.repository import ModelRepository
from service.settings import Settings
from service.statistics import Statistics

JSON: Final = "application/json"

Document = dict[str, Any]


def add_openapi(app: FastAPI, repository: ModelRepository, statistics: Statistics, settings: Settings) -> None:
    """Let the application describe itself by `openapi_document`."""
    kept: dict[int, Document] = {}

    def openapi() -> Document:
        generation = repository.generation
        if generation in kept:
            return kept[generation]
        plain = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        document = openapi_document(plain, repository, statistics, settings)
        if repository.is_loaded:
            kept.clear()
            kept[generation] = document
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def openapi_document(
    document: Document, repository: ModelRepository, statistics: Statistics, settings: Settings
) -> Document:
    """FastAPI's document with the problem document's schema and with examples."""
    schemas = document["components"]["schemas"]
    problem_schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem_schema.pop("$defs") | {"Problem": problem_schema}
    for never_sent in ("HTTPValidationError", "ValidationError"):
        schemas.pop(never_sent, None)
    answers, problems = answer_examples(repository, statistics), problem_examples(repository, settings)
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
