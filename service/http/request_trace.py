"""The trace of every request: its id, its times, and who is told when it has ended."""

import itertools
import os
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from starlette.types import Scope

from service.http.answers import REQUEST_ID
from service.inference.admission import Ticket
from service.telemetry.trace import Trace

MAX_ID_BYTES: Final = 128
SCOPE_KEY: Final = "cifar10.observation"
ID_KEY: Final = "cifar10.request_id"
TICKET_KEY: Final = "cifar10.begun"
"""Where the scope of a request has what the backlog knows of it."""

Observer = Callable[[Trace], None]
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
        if known is not None:
            return known
        for name, value in scope["headers"]:
            if name == REQUEST_ID and _is_id(value):
                known = bytes(value)
                break
        else:
            known = b"%s%012x" % (self._drawn, next(self._count))
        scope[ID_KEY] = known
        return known


def new_trace(scope: Scope, path: str, request_id: bytes, ticket: Ticket | None) -> Trace:
    """Return the trace of a request that starts now, or started when it was put into the backlog.

    Args:
        path: of the route, without the prefix in front of the service.
    """
    client = scope.get("client")
    trace = Trace(scope["method"], path, request_id.decode(), client=client and client_text(*client))
    if ticket is not None:
        trace.start_s -= ticket.waited_s
    return trace


def notify_finished(trace: Trace, observers: Sequence[Observer]) -> None:
    """Time a request that has ended, and have it noted."""
    trace.total_s = time.monotonic() - trace.start_s
    for observer in observers:
        observer(trace)


@lru_cache(maxsize=1024)
def client_text(host: str, port: int) -> str:
    """Return the address and port of a client, such as `127.0.0.1:40000` or `[::1]:40000`."""
    if not port:  # a proxy usually names the address alone
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def trace_of(scope: Scope) -> Trace:
    """Return the trace of the request with this scope."""
    trace: Trace = scope[SCOPE_KEY]
    return trace


def ticket_of(scope: Scope) -> Ticket | None:
    """Return what the backlog knows of the request with this scope; None where it was in none."""
    ticket: Ticket | None = scope.get(TICKET_KEY)
    return ticket


def _is_id(value: bytes) -> bool:
    return 0 < len(value) <= MAX_ID_BYTES and value.isascii() and value.decode().isprintable()
