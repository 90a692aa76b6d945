"""Attempts of one call: when to retry, how long to wait, and the deadline of the whole call."""

import logging
import math
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import httpcore
import httpx

from cifar10_serving.client._config import MAX_LOST_ATTEMPTS, MAX_SECONDS, Retries, Timeouts
from cifar10_serving.client._errors import (
    AnswerTimeoutError,
    ClientError,
    ConnectionLostError,
    GatewayError,
    UnavailableError,
    Unreachable,
    UnreachableError,
)

WRITE_BYTES: Final = 65536
"""Maximum number of bytes sent between two checks of the deadline."""

_ends_s: ContextVar[float | None] = ContextVar("ends_s", default=None)
"""The end of this thread's current call, on the monotonic clock."""
RETRIED: Final = (UnavailableError, GatewayError)
GATEWAY_TIMEOUT: Final = 504
LONG: Final = 5
"""Number of attempts after which the log says what the client is waiting for."""
SHORT_ATTEMPT_S: Final = 1.0
"""An attempt that was given less time says nothing about the service."""
LEAST_ATTEMPT_S: Final = 0.02
"""Shortest time in which an answer can be expected."""

logger = logging.getLogger(__name__)


@contextmanager
def call_ends(moment_s: float | None) -> Iterator[None]:
    """Limit this thread's socket operations to a moment of the monotonic clock; None for no limit."""
    token = _ends_s.set(moment_s)
    try:
        yield
    finally:
        _ends_s.reset(token)


def hold_deadlines(http: httpx.Client) -> None:
    """Make the client's connections, including those through a proxy, respect the call's deadline.

    httpx has no public way to set the network of its pools. Custom transports are left unchanged.
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


class Contact:
    """Remembers whether a client has ever had an answer of any kind, which proves that a service was there."""

    def __init__(self) -> None:
        self.made = False


class Attempts:
    """The attempts of one call, from its creation.

    Args:
        request: description of the request.
        contact: the client's contact; set by the first answer.
    """

    def __init__(self, request: str, timeouts: Timeouts, retries: Retries, contact: Contact) -> None:
        self.request = request
        self._timeouts = timeouts
        self._retries = retries
        self._contact = contact
        self.ends_s = None if timeouts.total_s is None else time.monotonic() + timeouts.total_s
        """The end of the total time-out on the monotonic clock; None for no time-out."""
        self._made = 0
        self._lost = 0
        self._last: ClientError | None = None
        self._attempt_s: float | None = None

    def left_s(self) -> float | None:
        """Return the rest of the total time-out; None for no time-out.

        Raises:
            AnswerTimeoutError: it has passed.
        """
        if self.ends_s is None:
            return None
        left_s = self.ends_s - time.monotonic()
        if left_s <= 0:
            raise self.out_of_time()
        return left_s

    def timeout(self) -> httpx.Timeout:
        """Return the time-outs of an attempt that starts now, none longer than the rest of the total time-out.

        Raises:
            AnswerTimeoutError: it has passed.
        """
        self._attempt_s = left_s = self.left_s()
        connect_s, read_s = self._timeouts.connect_s, self._timeouts.read_s
        if left_s is not None:
            connect_s, read_s = min(connect_s, left_s), min(read_s, left_s)
        return httpx.Timeout(connect=connect_s, read=read_s, write=read_s, pool=left_s)

    def wait_s(self, error: ClientError) -> float:
        """Return the time to wait before the next attempt.

        Raises:
            ClientError: the error itself, if it is not retried, or if no attempt or time is left.
        """
        self._last = error
        self._made += 1
        self._lost += isinstance(error, ConnectionLostError)
        if not self._is_passing(error) or self._made >= self._most(error):
            raise error
        retry_after_s = getattr(error, "retry_after_s", None) or 0.0
        wait_s = self._retries.wait_s(self._made, retry_after_s)
        left_s = MAX_SECONDS if self.ends_s is None else self.ends_s - time.monotonic()
        if retry_after_s >= left_s:
            raise error
        if self._made >= LONG:
            logger.info("%s; retrying%s", error.problem, self._for_how_long(left_s))
        if wait_s < left_s:
            return wait_s
        # The last waits are shorter, so that a service that is back just before the time-out gets a request.
        wait_s = retry_after_s + (left_s - retry_after_s) / 2
        if left_s - wait_s < LEAST_ATTEMPT_S:
            raise error
        return wait_s

    def _for_how_long(self, left_s: float) -> str:
        return "" if self.ends_s is None else f" for up to {math.ceil(left_s)} s"

    def begin_next(self) -> None:
        """Start the next attempt, after the wait.

        Raises:
            ClientError: the last error, if the wait took too long and no time is left.
        """
        if self._last is not None and self.ends_s is not None and time.monotonic() >= self.ends_s:
            raise self._last

    def _is_passing(self, error: ClientError) -> bool:
        if isinstance(error, ConnectionLostError):
            return self._retries.attempts is not None or self._lost < MAX_LOST_ATTEMPTS
        if isinstance(error, UnreachableError):
            return error.cause is not Unreachable.PERMANENT
        return isinstance(error, RETRIED) and getattr(error, "status", None) != GATEWAY_TIMEOUT

    def _most(self, error: ClientError) -> float:
        most = [self._retries.attempts]
        if isinstance(error, UnreachableError) and not self._contact.made:
            most.append(self._retries.attempts_before_contact)
            if error.cause is not Unreachable.REFUSED:
                most.append(MAX_LOST_ATTEMPTS)
        return min((count for count in most if count is not None), default=math.inf)

    def out_of_time(self) -> ClientError:
        """Return the error for a passed total time-out; the previous error if the last attempt was short."""
        if self._last is not None and self._attempt_s is not None and self._attempt_s < SHORT_ATTEMPT_S:
            return self._last
        return AnswerTimeoutError(
            f"{self.request}: no answer within {self._timeouts.total_s:g} s", remedy="increase the time-out"
        )
