"""Errors as `{"error": "…"}` below the prefixes of protocols that know no problem documents.

Whoever raised an error, and wherever, it is a problem document first (`service.api.problems`); here it is said again
in the protocol's own form, with the same status and headers.
"""

from collections.abc import Sequence
from typing import Final

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import PROBLEM_TYPE
from service.forwarding import route_path

CONTENT_TYPE: Final = b"content-type"
CONTENT_LENGTH: Final = b"content-length"


class PlainErrorsMiddleware:
    """Rewrites the problem documents that leave under some prefixes.

    Args:
        app: the rest of the application.
        prefixes: of paths, such as `/v2`.
    """

    def __init__(self, app: ASGIApp, prefixes: Sequence[str]) -> None:
        self._app = app
        self._prefixes = tuple(prefixes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http" or not route_path(scope).startswith(self._prefixes):
            await self._app(scope, receive, send)
            return
        start: Message | None = None

        async def rewriting_send(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and (CONTENT_TYPE, PROBLEM_TYPE.encode()) in message["headers"]:
                start = message
                return
            if start is not None and message["type"] == "http.response.body" and message.get("body"):
                body = plain_error(message["body"])
                kept = [header for header in start["headers"] if header[0] not in (CONTENT_TYPE, CONTENT_LENGTH)]
                headers = [*kept, (CONTENT_TYPE, b"application/json"), (CONTENT_LENGTH, b"%d" % len(body))]
                await send({**start, "headers": headers})
                start, message = None, {**message, "body": body}
            await send(message)

        await self._app(scope, receive, rewriting_send)


def plain_error(problem: bytes) -> bytes:
    """A problem document said again as `{"error": "…"}`."""
    document = orjson.loads(problem)
    parts = [document["detail"]]
    if "expected" in document:
        parts.append(f"Expected: {document['expected']}")
    if "remedy" in document:
        parts.append(f"What to do: {document['remedy']}")
    return orjson.dumps({"error": ". ".join(part.rstrip(".") for part in parts) + "."})
