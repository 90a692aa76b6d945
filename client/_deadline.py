"""Ends a `Client`'s call at its total time-out, however slowly bytes come or go.

httpx bounds each read and write, and begins anew with every byte; a server that sends one byte a second would be read
for hours. httpcore, which httpx stands on, lets the network be given to it: here every step on a socket gets what is
left of the call's time. `AsyncClient` needs none of this, since asyncio cancels.
"""

import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import httpcore
import httpx

WRITE_BYTES: Final = 65536
"""Sent at once, so that time is looked at in between."""

_ends_s: ContextVar[float | None] = ContextVar("ends_s", default=None)
"""When the call of this thread ends, on the monotonic clock."""


@contextmanager
def call_ends(moment_s: float | None) -> Iterator[None]:
    """What this thread does on sockets meanwhile ends at a moment of the monotonic clock; None for no end."""
    token = _ends_s.set(moment_s)
    try:
        yield
    finally:
        _ends_s.reset(token)


def hold_deadlines(http: httpx.Client) -> None:
    """Have the client's connections, those through a proxy too, end when the call does.

    httpx has no public way to hand its pools a network. Transports that are not its own stay as they are.
    """
    for transport in (http._transport, *http._mounts.values()):  # noqa: SLF001
        if isinstance(transport, httpx.HTTPTransport):
            pool = transport._pool  # noqa: SLF001
            pool._network_backend = _Network(pool._network_backend)  # noqa: SLF001


class _Network(httpcore.NetworkBackend):
    def __init__(self, network: httpcore.NetworkBackend) -> None:
        self._network = network

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left_s = _left_s(timeout, httpcore.ConnectTimeout)
        return _Stream(self._network.connect_tcp(host, port, left_s, local_address, socket_options))

    def sleep(self, seconds: float) -> None:
        self._network.sleep(seconds)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left_s(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), WRITE_BYTES):
            self._stream.write(buffer[start : start + WRITE_BYTES], _left_s(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left_s = _left_s(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left_s))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left_s(timeout_s: float | None, error: type[httpcore.TimeoutException]) -> float | None:
    ends_s = _ends_s.get()
    if ends_s is None:
        return timeout_s
    left_s = ends_s - time.monotonic()
    if left_s <= 0:
        raise error
    return left_s if timeout_s is None else min(timeout_s, left_s)
