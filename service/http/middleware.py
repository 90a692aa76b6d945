"""The middleware around every HTTP request: its trace, common headers, early answers, and shutdown.

Prediction requests bypass FastAPI's routing and validation, which would cost more than the rest of a small request. A
hot route is declared once, by `HotRoutes.add`. FastAPI gets it for the OpenAPI document and for requests to its
application alone; the same handler answers on every path. Handlers await only futures and `asyncio.sleep(0)`, so that
an `EagerCall` can run them without a task.
"""

import asyncio
import inspect
import logging
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import RequestError
from service.http.errors import error_answer
from service.http.exchange import (
    CLOSE,
    REQUEST_ID,
    SECURITY_HEADERS,
    TICKET_KEY,
    TRACE_KEY,
    Answer,
    AsgiExchange,
    Handler,
    HttpExchange,
    RequestIds,
    new_trace,
    to_response,
)
from service.http.forwarding import Forwarding
from service.settings import Settings
from service.telemetry.trace import Observer

MAX_KEPT_PATHS: Final = 512
"""Number of cached paths; the protocol limits each to 8 KiB."""
LINGER_S: Final = 2.0
LINGER_BYTES: Final = 64 * 2**20
BODY_COMPLETE: Final = "cifar10.body_complete"
"""Scope key that the protocol sets when the complete body has been received, whether read or not."""

logger = logging.getLogger(__name__)


class HotRoute(NamedTuple):
    """A handler and the path's parameters."""

    handler: Handler
    path_params: Mapping[str, str]


class HotRoutes:
    """The hot routes; each answers POST.

    Args:
        settings: limits and time-outs for requests that come through FastAPI's routing.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._routes: list[tuple[re.Pattern[str], Handler]] = []
        self.find = lru_cache(MAX_KEPT_PATHS)(self._find)
        """Return the hot route of a path, or None."""

    def add(
        self,
        router: APIRouter,
        path: str,
        handler: Handler,
        *,
        name: str,
        description: str | None = None,
        **declaration: Any,
    ) -> None:
        """Let a handler answer POST on a path.

        Args:
            router: the router whose OpenAPI document describes the route.
            path: the path below the router's prefix, in FastAPI's form.
            handler: the function that answers.
            name: the operation's name in the document.
            description: the operation's description; None for the handler's docstring.
            declaration: further arguments of FastAPI's `add_api_route`.
        """

        async def endpoint(request: Request) -> Response:
            return await respond(request, self._settings, handler)

        description = description or inspect.getdoc(handler)
        router.add_api_route(path, endpoint, methods=["POST"], name=name, description=description, **declaration)
        pattern, _, _ = compile_path(router.prefix + path)
        self._routes.append((pattern, handler))
        self.find.cache_clear()

    def _find(self, path: str) -> HotRoute | None:
        for pattern, handler in self._routes:
            if (found := pattern.match(path)) is not None:
                return HotRoute(handler, MappingProxyType(found.groupdict()))
        return None


async def respond(request: Request, settings: Settings, handler: Handler) -> Response:
    """Return a handler's answer to a request that came through FastAPI's routing."""
    return to_response(await AsgiExchange(request.scope, request.receive, settings).run(handler))


class Application:
    """The ASGI application for a server.

    Args:
        app: FastAPI's application.
        routes: the routes that bypass it.
        settings: limits and time-outs.
        forwarding: corrects the scopes of requests that come through proxies.
        observers: called with each finished request.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: HotRoutes,
        settings: Settings,
        *,
        forwarding: Forwarding | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.routes = routes
        self.settings = settings
        self.forwarding = forwarding or Forwarding()
        self.observers = observers
        self.request_ids = RequestIds()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or run the lifespan."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = self.forwarding.resolve(scope)
        request_id = self.request_ids.of(scope)
        trace = scope[TRACE_KEY] = new_trace(scope, path, request_id, scope.get(TICKET_KEY))
        reply = _Reply(scope, receive, send, request_id)
        try:
            hot = self.routes.find(path) if scope["method"] == "POST" else None
            if hot is not None:
                trace.is_inference = True
                scope["path_params"] = hot.path_params
                await reply.send_answer(await self._answer(scope, reply.receive, hot.handler))
            else:
                await self._app(_with_get(scope), reply.receive, reply.send)
        except asyncio.CancelledError as error:
            if reply.status:
                raise
            await reply.send_answer(error_answer(error, trace))
        finally:
            trace.status = reply.status
            trace.finish(self.observers)

    async def _answer(self, scope: Scope, receive: Receive, handler: Handler) -> Answer:
        exchange = AsgiExchange(scope, receive, self.settings)
        try:
            return await exchange.run(handler)
        except Exception as error:  # noqa: BLE001  # every one is rendered, and a fault of ours logged
            return logged_error_answer(error, exchange)


def logged_error_answer(error: BaseException, exchange: HttpExchange) -> Answer:
    """Return the answer to a request whose handler failed, and log internal errors."""
    answer = error_answer(error, exchange.trace)
    if answer.status == HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, RequestError):
        logger.error("%s %s failed", exchange.trace.method, exchange.trace.path, exc_info=error)
    return answer


class _Reply:
    """The reply to one request, and the rest of the request that is still to be received.

    A client that is still sending must be able to read an early answer, such as 413 or 503. Closing at once would reset
    the connection during the upload, and many clients would report a broken pipe instead of the answer. So the answer
    is sent completely, further data is discarded for a moment, and then the connection is closed.
    """

    __slots__ = ("_is_unread", "_receive", "_request_id", "_scope", "_send", "status")

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: bytes) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._request_id = request_id
        self._is_unread = _has_body(scope)
        self.status = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._is_unread = self._is_unread and message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def send_answer(self, answer: Answer) -> None:
        await self.send({"type": "http.response.start", "status": answer.status, "headers": answer.raw_headers()})
        await self.send({"type": "http.response.body", "body": answer.body})

    async def send(self, message: Message) -> None:
        is_early = self._is_unread and BODY_COMPLETE not in self._scope
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message["headers"], *SECURITY_HEADERS, (REQUEST_ID, self._request_id)]
            if self.status == HTTPStatus.TEMPORARY_REDIRECT:
                headers = [
                    (b"location", _other_slash(self._scope)) if entry[0] == b"location" else entry for entry in headers
                ]
            if is_early and CLOSE not in headers:
                headers.append(CLOSE)
            message = {**message, "headers": headers}
        if not is_early or message["type"] != "http.response.body" or message.get("more_body", False):
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        await self._drain()
        await self._send({"type": "http.response.body", "body": b""})

    async def _drain(self) -> None:
        drained_bytes = 0
        try:
            async with asyncio.timeout(LINGER_S):
                while drained_bytes < LINGER_BYTES:
                    message = await self.receive()
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        return
                    drained_bytes += len(message.get("body", b""))
        except (TimeoutError, asyncio.CancelledError):  # cancelled when a shutdown has no time left: the answer is sent
            return


def _with_get(scope: Scope) -> Scope:
    """Return the scope with GET in place of HEAD; the server omits the body."""
    return {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope


def _other_slash(scope: Scope) -> bytes:
    """Return the relative address of the same path with the trailing slash added or removed.

    Starlette's redirect contains the scheme and host that this process sees, which differ from the client's behind a
    proxy.
    """
    path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    bare = path.rstrip(b"/")
    name = bare.rpartition(b"/")[2]
    slashes = len(path) - len(bare)
    target = b"../" * slashes + name if slashes else b"./" + name + b"/"
    query = scope["query_string"]
    return target + b"?" + query if query else target


def _has_body(scope: Scope) -> bool:
    """Return whether a request has a body: a length other than 0, or a transfer coding."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )
