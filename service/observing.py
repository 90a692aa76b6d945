"""The trace of every request: its id, its times, and who is told when it has ended."""

import itertools
import os
import time
from collections.abc import Callable, Sequence
from typing import Final

from starlette.types import Scope

from service.core.backlog import Begun
from service.core.observation import Observation
from service.forwarding import route_path

REQUEST_ID: Final = b"x-request-id"
MAX_ID_BYTES: Final = 128
SCOPE_KEY: Final = "cifar10.observation"
ID_KEY: Final = "cifar10.request_id"
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
        """Return the id of the request with this scope, the same each time."""
        known: bytes | None = scope.get(ID_KEY)
        if known is None:
            known = scope[ID_KEY] = _clients_id(scope) or b"%s%012x" % (self._drawn, next(self._count))
        return known


def new_trace(scope: Scope, request_id: bytes) -> Observation:
    """Return the trace of a request that starts now, or started when it was put into the backlog."""
    trace = Observation(scope["method"], route_path(scope), request_id.decode(), client=client_of(scope))
    ticket = begun_of(scope)
    if ticket is not None:
        trace.start_s -= ticket.waited_s
    return trace


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
