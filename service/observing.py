"""The middleware that observes every request: times it, gives it an id, and tells metrics and log when it has ended."""

import itertools
import os
import time
from collections.abc import Callable, Sequence
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core.backlog import Begun
from service.core.observation import Observation
from service.forwarding import route_path
from service.security_headers import SECURITY_HEADERS

REQUEST_ID: Final = b"x-request-id"
MAX_ID_BYTES: Final = 128
SCOPE_KEY: Final = "cifar10.observation"
BEGUN: Final = "cifar10.begun"
"""Where the scope of a request has what the backlog knows of it."""

Observer = Callable[[Observation], None]
"""Takes note of a request that has ended; called on the event loop, so it must be quick."""


class RequestIds:
    """Gives each request an id unlike anybody else's, unless its client has given it one."""

    def __init__(self) -> None:
        # Like the others of this process but for the count: drawn once, not for each.
        self._drawn = os.urandom(10).hex().encode()
        self._count = itertools.count(1)

    def of(self, scope: Scope) -> bytes:
        """The id of the request with this scope."""
        return _clients_id(scope) or b"%s%012x" % (self._drawn, next(self._count))


class ObservingMiddleware:
    """Fills one `Observation` a request; the answer carries the request's id, the client's own where it sent one.

    Args:
        app: the rest of the application.
        observers: told when a request has ended.
    """

    def __init__(self, app: ASGIApp, observers: Sequence[Observer]) -> None:
        self._app = app
        self._observers = observers
        self._ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = self._ids.of(scope)
        observation = Observation(scope["method"], route_path(scope), request_id.decode())
        observation.client = client_of(scope)
        scope[SCOPE_KEY] = observation
        begun = begun_of(scope)
        if begun is not None:
            observation.start_s -= begun.waited_s

        async def observing_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                observation.status = message["status"]
                message["headers"] = [*message["headers"], *SECURITY_HEADERS, (REQUEST_ID, request_id)]
            await send(message)

        try:
            await self._app(scope, receive, observing_send)
        finally:
            tell_ended(observation, self._observers)


def tell_ended(observation: Observation, observers: Sequence[Observer]) -> None:
    """Time a request that has ended, and have it noted."""
    observation.total_s = time.monotonic() - observation.start_s
    for observer in observers:
        observer(observation)


def client_of(scope: Scope) -> str | None:
    """The address and port of a request's client, such as `127.0.0.1:40000` or `[::1]:40000`; None where not known."""
    client = scope.get("client")
    if client is None:
        return None
    host, port = client
    if not port:  # a proxy usually names the address alone
        return str(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def observation_of(scope: Scope) -> Observation:
    """The observation of the request with this scope."""
    observation: Observation = scope[SCOPE_KEY]
    return observation


def begun_of(scope: Scope) -> Begun | None:
    """What the backlog knows of the request with this scope; None where it was in none."""
    begun: Begun | None = scope.get(BEGUN)
    return begun


def _clients_id(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == REQUEST_ID and 0 < len(value) <= MAX_ID_BYTES and value.isascii() and value.decode().isprintable():
            return bytes(value)
    return None
