"""`GET /docs`: the OpenAPI document to read and to try, by Swagger UI, with nothing from outside.

Every address in the page is relative to the page's own, so that it works below any prefix that a proxy puts in front.
"""

from pathlib import Path
from typing import Final

import fastapi_offline
from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html, get_swagger_ui_oauth2_redirect_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from service.api.openapi import OPENAPI_PATH

DOCS_PATH: Final = "/docs"
STATIC_PATH: Final = "/static-offline-docs"
STATIC: Final = Path(fastapi_offline.__file__).parent / "static"


def add_docs(app: FastAPI) -> None:
    """Let the application show its document; its files are those of `fastapi_offline`."""
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
