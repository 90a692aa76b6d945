"""`GET /openapi.json`: FastAPI's own document, with the problem document's schema and with real examples.

It is made once, in a thread, when it is first asked for. The examples are stored (`examples.json`): answers of this
very service, which `make docs` asks for and writes (`scripts.openapi_examples`). No request for the document runs a
model.
"""

import asyncio
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi

from catalog.responses import Problem
from service.http.errors import PROBLEM_TYPE

OPENAPI_PATH: Final = "/openapi.json"
EXAMPLES: Final = Path(__file__).parent / "examples.json"
JSON: Final = "application/json"
HERE: Final = "."
"""Address of the API relative to the document, for when no prefix is known: correct behind every proxy."""

Document = dict[str, Any]
Examples = dict[str, dict[str, Any]]
"""`METHOD PATH` -> status -> what is answered."""


def add_openapi(app: FastAPI) -> None:
    """Let the application describe itself by `openapi_document`."""
    made: list[bytes] = []
    making = threading.Lock()

    def openapi() -> Document:
        if app.openapi_schema is None:
            plain = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            app.openapi_schema = openapi_document(plain, read_examples())
        return app.openapi_schema

    def encode() -> bytes:
        with making:
            if not made:
                made.append(orjson.dumps(openapi()))
        return made[0]

    async def show_openapi(request: Request) -> Response:
        document = made[0] if made else await asyncio.to_thread(encode)
        servers = orjson.dumps([{"url": request.scope.get("root_path") or HERE}])
        return Response(b'{"servers":%b,%b' % (servers, document.removeprefix(b"{")), media_type=JSON)

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
    app.add_route(OPENAPI_PATH, show_openapi, include_in_schema=False)


def read_examples() -> Examples:
    """Return the stored examples."""
    examples: Examples = orjson.loads(EXAMPLES.read_bytes())
    return examples


def openapi_document(document: Document, examples: Examples) -> Document:
    """Return FastAPI's document with the problem document's schema and with examples."""
    schemas = document["components"]["schemas"]
    problem_schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem_schema.pop("$defs") | {"Problem": problem_schema}
    for never_sent in ("HTTPValidationError", "ValidationError"):
        schemas.pop(never_sent, None)
    for name, operation in operations(document):
        responses = operation["responses"]
        if _is_fastapis_own(responses.get("422", {})):
            del responses["422"]  # FastAPI adds it wherever there is a parameter, in a form that is never sent
        for status, response in responses.items():
            for kind, content in response.get("content", {}).items():
                if kind in (JSON, PROBLEM_TYPE) and status in examples.get(name, {}):
                    content["example"] = examples[name][status]
    return document


def operations(document: Document) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield each operation of a document with its name, `METHOD PATH`."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def _is_fastapis_own(response: dict[str, Any]) -> bool:
    schema = response.get("content", {}).get(JSON, {}).get("schema", {})
    return bool(schema.get("$ref", "").endswith("/HTTPValidationError"))
