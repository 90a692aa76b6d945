"""`/openapi.json`, built once, off the event loop and with stored examples, and the documentation pages at `/docs`."""

import asyncio
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import fastapi_offline
import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html, get_swagger_ui_oauth2_redirect_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from cifar10_serving.schemas import Problem
from service.http.errors import PROBLEM_TYPE

OPENAPI_PATH: Final = "/openapi.json"
EXAMPLES: Final = Path(__file__).parent / "examples.json"
JSON: Final = "application/json"
HERE: Final = "."
"""The API's address relative to the document, if no prefix is known; correct behind every proxy."""

Document = dict[str, Any]
Examples = dict[str, dict[str, Any]]
"""`METHOD PATH` -> status -> example of an answer."""
DOCS_PATH: Final = "/docs"
STATIC_PATH: Final = "/static-offline-docs"
STATIC: Final = Path(fastapi_offline.__file__).parent / "static"


def add_openapi(app: FastAPI) -> None:
    """Let the application use `openapi_document`."""
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
    """Return FastAPI's document with the schema of problem documents and with examples."""
    schemas = document["components"]["schemas"]
    problem_schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem_schema.pop("$defs") | {"Problem": problem_schema}
    for never_sent in ("HTTPValidationError", "ValidationError"):
        schemas.pop(never_sent, None)
    for name, operation in operations(document):
        responses = operation["responses"]
        if _is_fastapis_own(responses.get("422", {})):
            del responses["422"]  # FastAPI adds it for every route with parameters, in a form that is never sent
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


def add_docs(app: FastAPI) -> None:
    """Let the application serve its documentation, with the files of `fastapi_offline`."""
    app.mount(STATIC_PATH, StaticFiles(directory=STATIC), name="static-offline-docs")
    app.include_router(_docs_routes(app.title))


def _docs_routes(title: str) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    static = STATIC_PATH.removeprefix("/")
    page = get_swagger_ui_html(
        title=f"{title} - Swagger UI",
        openapi_url=OPENAPI_PATH.removeprefix("/"),
        swagger_js_url=f"{static}/swagger-ui-bundle.js",
        swagger_css_url=f"{static}/swagger-ui.css",
        swagger_favicon_url=f"{static}/favicon.png",
    )

    @routes.get(DOCS_PATH)
    async def show_docs() -> HTMLResponse:
        return page

    @routes.get(f"{DOCS_PATH}/oauth2-redirect")
    async def show_oauth2_redirect() -> HTMLResponse:
        return get_swagger_ui_oauth2_redirect_html()

    return routes
