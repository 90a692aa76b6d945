"""`GET /`: the web page and its files (`web/`), which are held in memory and cached by browsers.

Browsers revalidate the page itself; its files are below a path that changes with their content.
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException, Request, Response

WEB: Final = Path(__file__).parent / "web"
PAGE: Final = "index.html"
ASSETS_MARK: Final = "{assets}"
TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
}
ALWAYS_ASK: Final = "no-cache"
KEEP_FOR_GOOD: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class WebFile:
    """A file of the page, ready to be sent."""

    content: bytes
    media_type: str
    etag: str


def page_routes() -> APIRouter:
    """Return the routes; the files are read once."""
    routes = APIRouter(include_in_schema=False)
    files = read_files(WEB)
    digest = sha256("".join(f"{name}{file.etag}" for name, file in files.items()).encode()).hexdigest()[:16]
    page = files.pop(PAGE).content.replace(ASSETS_MARK.encode(), f"web/{digest}".encode())
    start = WebFile(page, TYPES[".html"], _etag(page))

    @routes.get("/")
    async def show_page(request: Request) -> Response:
        return _answer(request, start, ALWAYS_ASK)

    @routes.get("/web/{version}/{name:path}")
    async def show_file(request: Request, version: str, name: str) -> Response:
        if version != digest or name not in files:
            raise HTTPException(404)
        return _answer(request, files[name], KEEP_FOR_GOOD)

    return routes


def read_files(folder: Path) -> dict[str, WebFile]:
    """Return every file in a folder that browsers get, by its path in the folder."""
    files = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix in TYPES:
            content = file.read_bytes()
            files[file.relative_to(folder).as_posix()] = WebFile(content, TYPES[file.suffix], _etag(content))
    return files


def _etag(content: bytes) -> str:
    return f'"{sha256(content).hexdigest()[:32]}"'


def _answer(request: Request, file: WebFile, caching: str) -> Response:
    headers = PAGE_HEADERS | {"ETag": file.etag, "Cache-Control": caching}
    known = {entry.strip().removeprefix("W/") for entry in request.headers.get("if-none-match", "").split(",")}
    if file.etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
