"""A prediction request and its reply, over ASGI or directly over the connection, as handlers see them.

Both exchanges are `service.inference.admission.Exchange`s. Over ASGI, the body is awaited with a time-out, and the
client is watched while its answer is computed. On the fast path the body is complete, and the connection reports a
disconnect. An `Answer` has two forms: a response for FastAPI, and bytes for a connection.
"""

import asyncio
import itertools
import os
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, Generic, TypeVar

from fastapi import Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from cifar10_serving.artifacts.metadata import Record
from cifar10_serving.schemas import InvalidParameter
from service.errors import InvalidParameterError, InvalidRequestError
from service.http.body import CONTENT_ENCODING, RawHeaders, content_codings, decompress, read_stream, upload_timeout
from service.http.uploads import FORM, WAYS, file_of_form, image_type
from service.inference.admission import Slot, Ticket
from service.inference.pipeline import Deadline
from service.settings import Settings
from service.telemetry.trace import Trace

RawHeader = tuple[bytes, bytes]
HeaderLines = tuple[RawHeader, ...]

JSON_HEADER: Final = (b"content-type", b"application/json")
JSON_HEADERS: Final = (JSON_HEADER,)
CLOSE: Final = (b"connection", b"close")
SECURITY_HEADERS: Final = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
"""Browsers don't guess another type, and linked sites don't learn from which service a user comes."""
REQUEST_ID: Final = b"x-request-id"
MAX_ID_BYTES: Final = 128
STATUS_LINES: Final[dict[int, bytes]] = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus
}
TRACE_KEY: Final = "cifar10.trace"
ID_KEY: Final = "cifar10.request_id"
TICKET_KEY: Final = "cifar10.ticket"
"""Scope key of the backlog's record of the request."""
TIMEOUT_HEADER: Final = "X-Request-Timeout-Ms"
RAW_TIMEOUT_HEADER: Final = TIMEOUT_HEADER.lower().encode()
MAX_TIMEOUT_MS: Final = 3_600_000
LOOK_FOR_CLIENT_AFTER_S: Final = 0.05

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer. `headers` excludes the headers that every answer has and the length of the body."""

    body: bytes
    headers: HeaderLines = JSON_HEADERS
    status: int = HTTPStatus.OK

    def raw_headers(self) -> list[RawHeader]:
        """Return the headers with the length of the body."""
        return [*self.headers, (b"content-length", b"%d" % len(self.body))]


def record_answer(record: Record) -> Answer:
    """Return a record as an answer, without validating it again as FastAPI would."""
    return Answer(record.model_dump_json().encode())


def to_response(answer: Answer) -> Response:
    """Return an answer in the form that FastAPI's routes and handlers return."""
    response = Response(answer.body, answer.status)
    response.raw_headers = answer.raw_headers()
    return response


def encode_answer(answer: Answer, server_headers: HeaderLines, request_id: bytes | None, *, closes: bool) -> bytes:
    """Return an answer as bytes, with the headers that every answer has.

    Args:
        server_headers: headers of the server, such as `date`.
        request_id: the request's id; None for an answer that several requests get.
        closes: whether to announce that the connection closes.
    """
    if closes and CLOSE not in answer.headers:
        server_headers = (*server_headers, CLOSE)
    id_line = b"" if request_id is None else b"%b: %b\r\n" % (REQUEST_ID, request_id)
    return b"%b%b%bcontent-length: %d\r\n\r\n%b" % (
        STATUS_LINES[answer.status],
        _header_lines((*server_headers, *answer.headers, *SECURITY_HEADERS)),
        id_line,
        len(answer.body),
        answer.body,
    )


@lru_cache(maxsize=256)
def _header_lines(headers: HeaderLines) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)


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


def _is_id(value: bytes) -> bool:
    return 0 < len(value) <= MAX_ID_BYTES and value.isascii() and value.decode().isprintable()


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


@lru_cache(maxsize=1024)
def client_text(host: str, port: int) -> str:
    """Return the address and port of a client, such as `127.0.0.1:40000` or `[::1]:40000`."""
    if not port:  # a proxy usually reports only the address
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def trace_of(scope: Scope) -> Trace:
    """Return the trace of the request with this scope."""
    trace: Trace = scope[TRACE_KEY]
    return trace


def raw_headers(scope: Scope) -> RawHeaders:
    """Return a request's headers by name; several lines of content codings become one list (RFC 9110, 5.3)."""
    lines = scope["headers"]
    headers = dict(lines)
    if len(headers) < len(lines) and CONTENT_ENCODING in headers:
        headers[CONTENT_ENCODING] = b", ".join(value for name, value in lines if name == CONTENT_ENCODING)
    return headers


class HttpExchange:
    """A prediction request that has arrived completely; see `AsgiExchange` for the others.

    Args:
        scope: ASGI's scope, with the path parameters of the route.
        trace: the request's trace.
        ticket: the backlog's record of the request; None if it was not in a backlog.
        settings: limits and time-outs.
        body: the request's body.
    """

    __slots__ = ("_body", "headers", "path_params", "query", "settings", "ticket", "trace")

    def __init__(
        self, scope: Scope, trace: Trace, ticket: Ticket | None, settings: Settings, body: bytes = b""
    ) -> None:
        self.headers = raw_headers(scope)
        self.query: bytes = scope["query_string"]
        self.path_params: Mapping[str, str] = scope.get("path_params", {})
        self.trace = trace
        self.ticket = ticket
        self.settings = settings
        self._body = body

    def timeout_s(self) -> float:
        """Return the time from the complete request to its deadline, less the time that it has already waited.

        Raises:
            InvalidParameterError: the requested deadline is not valid.
            DeadlineError: the deadline has passed.
        """
        timeout_s = self.settings.request_timeout_s
        if RAW_TIMEOUT_HEADER in self.headers:
            timeout_s = min(timeout_s, _own_timeout_s(self.headers[RAW_TIMEOUT_HEADER]))
        if self.ticket is None or not self.ticket.waited_s:
            return timeout_s
        if self.ticket.waited_s >= timeout_s:
            raise Deadline.after(timeout_s).passed()
        return round(timeout_s - self.ticket.waited_s, 3)

    async def read(self, slot: Slot) -> tuple[bytes, Deadline]:
        """Return the complete body and the deadline of the request.

        Args:
            slot: the request's admission slot, in which the body's bytes are counted.

        Raises:
            ClientDisconnect: the client disconnected.
            RequestError: the body is too large, all bodies together are, or the requested deadline is not valid.
        """
        deadline = Deadline.after(self.timeout_s())
        slot.hold_bytes(len(self._body))
        return self._body, deadline


async def read_image(exchange: HttpExchange, slot: Slot) -> tuple[bytes, Deadline]:
    """Return the encoded image in a request, and the request's deadline; the type is checked before the body is read.

    Raises:
        ClientDisconnect: the client disconnected.
        RequestError: there is no image, its type is not supported, or `HttpExchange.read` failed.
    """
    content_type, options = image_type(exchange.headers)
    body, deadline = await exchange.read(slot)
    image = file_of_form(body, options) if content_type == FORM else body
    if not image:
        raise InvalidRequestError("the request has no image: its body has 0 bytes", expected=WAYS)
    return image, deadline


async def read_content(exchange: HttpExchange, slot: Slot) -> tuple[bytes, Deadline]:
    """Return the body of a request, which may be compressed, and the request's deadline.

    Raises:
        ClientDisconnect: the client disconnected.
        RequestError: the compression is not supported or damaged, or `HttpExchange.read` failed.
    """
    if CONTENT_ENCODING not in exchange.headers:
        return await exchange.read(slot)
    codings = content_codings(exchange.headers)
    body, deadline = await exchange.read(slot)
    return await decompress(body, codings, slot, max_body_bytes=exchange.settings.max_body_bytes), deadline


def _own_timeout_s(raw: bytes) -> float:
    asked = raw.decode("latin-1")
    if not (asked.isascii() and asked.isdigit() and 1 <= int(asked[:10]) <= MAX_TIMEOUT_MS):
        expected = f"a whole number of milliseconds, 1 to {MAX_TIMEOUT_MS:,}"
        raise InvalidParameterError([InvalidParameter(name=TIMEOUT_HEADER, value=asked[:100], expected=expected)])
    return int(asked) / 1000


Handler = Callable[[HttpExchange], Coroutine[Any, None, Answer]]
"""Reads a request, has it computed and encodes the answer; raises errors."""


class AsgiExchange(HttpExchange):
    """A request over ASGI, whose body is received by `read`; used in the request's task."""

    __slots__ = ("_receive", "_watch")

    def __init__(self, scope: Scope, receive: Receive, settings: Settings) -> None:
        super().__init__(scope, trace_of(scope), scope.get(TICKET_KEY), settings)
        self._receive = receive
        self._watch = _ClientWatch(receive)

    async def read(self, slot: Slot) -> tuple[bytes, Deadline]:
        """Return the body when it is complete; from then on, watch the client."""
        timeout_s = self.timeout_s()
        self._watch.expect_body(self.settings.upload_timeout_s, upload_timeout)
        body = await read_stream(self.headers, self._receive, slot, max_body_bytes=self.settings.max_body_bytes)
        self._watch.begin()
        return body, Deadline.after(timeout_s)

    async def run(self, handler: Handler) -> Answer:
        """Return the handler's answer.

        Raises:
            ClientDisconnect: the client disconnected.
            RequestError: raised by the handler, or the body came too late.
        """
        try:
            return await handler(self)
        except asyncio.CancelledError:
            self._watch.raise_cause()
            raise
        finally:
            self._watch.end()


class _ClientWatch:
    """Watches one client, in the task of its request: the body must arrive in time, and the client must stay.

    Otherwise the request is cancelled, so that it causes no more work. Most answers are sent before the first check.

    Args:
        receive: ASGI's callable of the request; nobody else may call it after `begin`.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._cause: Exception | None = None
        self._timer: asyncio.Handle | None = None
        self._look: asyncio.Task[None] | None = None

    def expect_body(self, timeout_s: float, too_late: Callable[[float], Exception]) -> None:
        """Cancel the request unless `begin` is called in time.

        Args:
            timeout_s: time limit, from now.
            too_late: returns the error to raise in place of the cancellation.
        """
        task = _current_task()
        self._timer = self._loop.call_later(timeout_s, lambda: self._cancel(task, too_late(timeout_s)))

    def begin(self) -> None:
        """Check for a disconnect from now on; the body has been read."""
        self.end()
        self._timer = self._loop.call_later(LOOK_FOR_CLIENT_AFTER_S, self._start, _current_task())

    def end(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
        if self._look is not None:
            self._look.cancel()

    def raise_cause(self) -> None:
        """Raise the reason for a cancellation that this object requested; ignore any other cancellation.

        Raises:
            ClientDisconnect: the client disconnected.
            Exception: the body came too late.
        """
        if self._cause is not None:
            _current_task().uncancel()
            raise self._cause

    def _start(self, task: "asyncio.Task[object]") -> None:
        self._look = asyncio.create_task(self._wait(task))

    async def _wait(self, task: "asyncio.Task[object]") -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._cancel(task, ClientDisconnect())

    def _cancel(self, task: "asyncio.Task[object]", cause: Exception) -> None:
        self._cause = cause
        task.cancel()


def _current_task() -> "asyncio.Task[object]":
    task = asyncio.current_task()
    if task is None:
        raise AssertionError("not in a task: an ASGI server runs each request in one")
    return task


@dataclass(eq=False, slots=True)
class EagerCall(Generic[Result]):
    """A coroutine that runs at once up to its first wait and then from callbacks: a request without a task of its own.

    A small image whose request has arrived completely is then answered within one or two ticks of the event loop.
    asyncio's eager tasks do the same from Python 3.12 on; 3.11 has none. The coroutine may await only futures and
    `asyncio.sleep(0)`.

    Args:
        coroutine: the coroutine to run.
        on_done: called once with the result or the exception, on the event loop; within the first `step` if the
            coroutine never waits.
        on_wait: called with each future that the coroutine waits for. Cancelling the future cancels the coroutine.
    """

    coroutine: Coroutine[Any, None, Result]
    on_done: Callable[[Result | BaseException], None]
    on_wait: Callable[["asyncio.Future[Any]"], None]

    def step(self, _done: "asyncio.Future[Any] | None" = None) -> None:
        """Run until the next wait. The creator calls this once, then each awaited future calls it."""
        try:
            # If the future failed or was cancelled, the exception is raised in the coroutine.
            waiting = self.coroutine.send(None)
        except StopIteration as stop:
            self.on_done(stop.value)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # the caller's part
            self.on_done(error)
        else:
            if waiting is None:  # asyncio.sleep(0): over in the next tick, so there is nothing to cancel
                asyncio.get_running_loop().call_soon(self.step)
                return
            waiting._asyncio_future_blocking = False  # noqa: SLF001  # as asyncio.Task does
            self.on_wait(waiting)
            waiting.add_done_callback(self.step)
