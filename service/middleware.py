"""What surrounds every request, whichever protocol: plain ASGI middleware, one class for each concern."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.direct_predict import DirectPredict
from service.api.problems import ProblemResponse, problem_of
from service.core.retry import stopping
from service.forwarding import Forwarding, route_path
from service.observing import Observer

LINGER_S = 2.0
LINGER_BYTES = 64 * 2**20
BODY_COMPLETE = "cifar10.body_complete"
"""Where a scope says that the whole body has been received, read or not; the protocol adds it."""


class FastLanes:
    """Goes around everything else, for paths that are asked for so often that routing and its middleware show.

    What a lane answers is still declared by a route, so that the OpenAPI document knows of it.

    Args:
        app: the rest of the application.
        lanes: path -> what answers POST.
        pattern: of more paths; its groups are the path parameters.
        pattern_lane: what answers POST there.
        direct: answers some of the requests without ASGI, for a server that can let it.
        forwarding: puts the scopes of requests right that come through proxies.
        observers: told of requests that have ended; for a server that ends some by itself.
    """

    def __init__(
        self,
        app: ASGIApp,
        lanes: Mapping[str, ASGIApp],
        pattern: re.Pattern[str],
        pattern_lane: ASGIApp,
        direct: DirectPredict | None = None,
        *,
        forwarding: Forwarding | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.direct = direct
        self.forwarding = forwarding or Forwarding()
        self.observers = observers
        self._app = app
        self._lanes = lanes
        self._pattern = pattern
        self._pattern_lane = pattern_lane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        lane = None
        if scope["type"] == "http":
            self.forwarding.resolve(scope)
            if scope["method"] == "POST":
                path = route_path(scope)
                lane = self._lanes.get(path)
                if lane is None and (found := self._pattern.fullmatch(path)):
                    scope["path_params"] = found.groupdict()
                    lane = self._pattern_lane
        await (lane or self._app)(scope, receive, send)


class HeadMiddleware:
    """Answers HEAD wherever GET is answered, as HTTP asks for; the server leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


class RedirectMiddleware:
    """Makes the redirects that add or take away a last slash relative to the address that was asked for.

    Starlette's name scheme and host as this process sees them, which behind a proxy are not the client's.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""

        async def relative_send(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.TEMPORARY_REDIRECT:
                location = (b"location", _other_slash(scope))
                headers = [location if header[0] == b"location" else header for header in message["headers"]]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, relative_send)


def _other_slash(scope: Scope) -> bytes:
    """The address of the same path with a last slash where it has none, or without, relative to itself."""
    path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    bare = path.rstrip(b"/")
    name = bare.rpartition(b"/")[2]
    slashes = len(path) - len(bare)
    target = b"../" * slashes + name if slashes else b"./" + name + b"/"
    query = scope["query_string"]
    return target + b"?" + query if query else target


class LingerMiddleware:
    """Lets a client that is still sending read an answer that came early, such as 413 or 503.

    Closing at once would reset the connection under the upload, and many clients would report a broken pipe
    instead of the answer. So the answer goes out whole, what still arrives is thrown away for a moment, and then
    the connection is closed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, watching how much of its body was read."""
        if scope["type"] != "http" or not _has_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        unread = True

        async def watching_receive() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def lingering_send(message: Message) -> None:
            nonlocal unread
            unread = unread and BODY_COMPLETE not in scope
            if unread and message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            if not unread or message["type"] != "http.response.body" or message.get("more_body", False):
                await send(message)
                return
            await send({**message, "more_body": True})
            await _drain(watching_receive)
            await send({"type": "http.response.body", "body": b""})

        await self._app(scope, watching_receive, lingering_send)


class StoppingMiddleware:
    """Answers 503 to a request that is cut off because the grace time of a stop is over."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; the server cancels it when the grace time is over."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except asyncio.CancelledError:
            if started:
                raise
            error = stopping()
            headers = {"Retry-After": str(error.retry_after_s), "Connection": "close"}
            await ProblemResponse(problem_of(error), headers)(scope, receive, send)


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


async def _drain(receive: Receive) -> None:
    drained_bytes = 0
    try:
        async with asyncio.timeout(LINGER_S):
            while drained_bytes < LINGER_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                drained_bytes += len(message.get("body", b""))
    except (TimeoutError, asyncio.CancelledError):  # cancelled when a stop has no more time: the answer is out
        return
