"""`/openapi.json` and the documentation pages at `/docs`; and what several native routes declare for them.

The document is built once, off the event loop, and with stored examples.
"""

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
from service.http.exchange import MAX_ID_BYTES, MAX_TIMEOUT_MS, TIMEOUT_HEADER
from service.http.uploads import FIELD, FILES_FIELD
from service.images.formats.reading import DECLARED_TYPES

Document = dict[str, Any]
Examples = dict[str, dict[str, Any]]
"""`METHOD PATH` -> status -> example of an answer."""

_BINARY: Final = {"type": "string", "format": "binary"}
_RAW_BODIES: Final = {kind: {"schema": _BINARY} for kind in sorted(DECLARED_TYPES)}

OPENAPI_PATH: Final = "/openapi.json"
EXAMPLES: Final = Path(__file__).parent / "examples.json"
JSON: Final = "application/json"
HERE: Final = "."
"""The API's address relative to the document, if no prefix is known; correct behind every proxy."""

DOCS_PATH: Final = "/docs"
STATIC_PATH: Final = "/static-offline-docs"
STATIC: Final = Path(fastapi_offline.__file__).parent / "static"


def _form(field: str, schema: Document) -> Document:
    return {"multipart/form-data": {"schema": {"type": "object", "required": [field], "properties": {field: schema}}}}


IMAGE_BODY: Final[Document] = {
    "required": True,
    "content": _form(FIELD, _BINARY | {"description": "the image"}) | _RAW_BODIES,
}
FILES_BODY: Final[Document] = {
    "required": True,
    "content": _form(FILES_FIELD, {"type": "array", "items": _BINARY, "description": "the images"}),
}
HEADERS: Final[list[Document]] = [
    {
        "name": TIMEOUT_HEADER,
        "in": "header",
        "description": "deadline of this request in milliseconds, if the service's is too long; after it, 504",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS},
    },
    {
        "name": "X-Request-ID",
        "in": "header",
        "description": f"any text of at most {MAX_ID_BYTES} characters; it is repeated in the answer and in the log",
        "schema": {"type": "string", "maxLength": MAX_ID_BYTES},
    },
]


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the declarations of these error statuses for the OpenAPI document."""
    titles = {
        400: "No image, or one that can't be decoded",
        401: "The token is missing or wrong",
        404: "No such model, version or plot",
        406: "The client accepts no JSON",
        408: "The body did not arrive in time",
        413: "Too many bytes or pixels",
        415: "Not a supported image type",
        422: "A parameter is not valid",
        503: "Overloaded, not ready or stopping; see `Retry-After`",
        504: "No answer within the deadline",
    }
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {status: {"description": titles[status], "content": {PROBLEM_TYPE: schema}} for status in statuses}


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
