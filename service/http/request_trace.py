"""The trace of each request: its id, its times, and the observers of its end."""

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
TICKET_KEY: Final = "cifar10.ticket"
"""Scope key of the backlog's record of the request."""

Observer = Callable[[Trace], None]
"""Records a finished request; called on the event loop, so it must be fast."""


class RequestIds:
    """Gives each request a unique id, unless the client has set one."""

    def __init__(self) -> None:
        # Drawn once: the ids of this process differ only in their counter.
        self._drawn = os.urandom(10).hex().encode()
        self._count = itertools.count(1)

    def of(self, scope: Scope) -> bytes:
        """Return the id of the request with this scope, the same on each call."""
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
    """Return the trace of a request that starts now, or that started when it entered the backlog.

    Args:
        path: the path of the route, without the service's prefix.
    """
    client = scope.get("client")
    trace = Trace(scope["method"], path, request_id.decode(), client=client and client_text(*client))
    if ticket is not None:
        trace.start_s -= ticket.waited_s
    return trace


def notify_finished(trace: Trace, observers: Sequence[Observer]) -> None:
    """Set the time of a finished request, and notify the observers."""
    trace.total_s = time.monotonic() - trace.start_s
    for observer in observers:
        observer(trace)


@lru_cache(maxsize=1024)
def client_text(host: str, port: int) -> str:
    """Return the address and port of a client, such as `127.0.0.1:40000` or `[::1]:40000`."""
    if not port:  # a proxy usually reports only the address
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def trace_of(scope: Scope) -> Trace:
    """Return the trace of the request with this scope."""
    trace: Trace = scope[SCOPE_KEY]
    return trace


def ticket_of(scope: Scope) -> Ticket | None:
    """Return the backlog's record of the request with this scope, or None."""
    ticket: Ticket | None = scope.get(TICKET_KEY)
    return ticket


def _is_id(value: bytes) -> bool:
    return 0 < len(value) <= MAX_ID_BYTES and value.isascii() and value.decode().isprintable()
