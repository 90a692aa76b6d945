"""A prediction request and its reply, over ASGI or directly over the connection, as handlers see it.

Both classes are `service.inference.admission.Exchange`s. Over ASGI, the body is awaited with a time-out, and the client
is watched while its answer is computed. On the fast path the body is complete, and the connection reports a disconnect.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Generic, TypeVar

from starlette.types import Receive, Scope

from cifar10_serving.schemas import InvalidParameter
from service.errors import InvalidParameterError, InvalidRequestError
from service.http.answers import Answer
from service.http.body import FORM, image_type, raw_headers, read_stream, upload_timeout
from service.http.client_watch import ClientWatch
from service.http.content_type import WAYS
from service.http.multipart_form import file_of_form
from service.http.request_trace import ticket_of, trace_of
from service.inference.admission import Slot, Ticket
from service.inference.pipeline import Deadline
from service.settings import Settings
from service.telemetry.trace import Trace

TIMEOUT_HEADER: Final = "X-Request-Timeout-Ms"
RAW_TIMEOUT_HEADER: Final = TIMEOUT_HEADER.lower().encode()
MAX_TIMEOUT_MS: Final = 3_600_000

Result = TypeVar("Result")


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


Handler = Callable[[HttpExchange], Coroutine[Any, None, Answer]]
"""Reads a request, has it computed and encodes the answer; raises errors."""


class AsgiExchange(HttpExchange):
    """A request over ASGI, whose body is received by `read`; used in the request's task."""

    __slots__ = ("_receive", "_watch")

    def __init__(self, scope: Scope, receive: Receive, settings: Settings) -> None:
        super().__init__(scope, trace_of(scope), ticket_of(scope), settings)
        self._receive = receive
        self._watch = ClientWatch(receive)

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

    __slots__ = ("_coroutine", "_on_done", "_on_wait")

    def __init__(
        self,
        coroutine: Coroutine[Any, None, Result],
        on_done: Callable[[Result | BaseException], None],
        on_wait: Callable[["asyncio.Future[Any]"], None],
    ) -> None:
        self._coroutine = coroutine
        self._on_done = on_done
        self._on_wait = on_wait

    def step(self, _done: "asyncio.Future[Any] | None" = None) -> None:
        """Run until the next wait. The creator calls this once, then each awaited future calls it."""
        try:
            # If the future failed or was cancelled, the exception is raised in the coroutine.
            waiting = self._coroutine.send(None)
        except StopIteration as stop:
            self._on_done(stop.value)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # the caller's part
            self._on_done(error)
        else:
            if waiting is None:  # asyncio.sleep(0): over in the next tick, so there is nothing to cancel
                asyncio.get_running_loop().call_soon(self.step)
                return
            waiting._asyncio_future_blocking = False  # noqa: SLF001  # as asyncio.Task does
            self._on_wait(waiting)
            waiting.add_done_callback(self.step)


def _own_timeout_s(raw: bytes) -> float:
    asked = raw.decode("latin-1")
    if not (asked.isascii() and asked.isdigit() and 1 <= int(asked[:10]) <= MAX_TIMEOUT_MS):
        expected = f"a whole number of milliseconds, 1 to {MAX_TIMEOUT_MS:,}"
        raise InvalidParameterError([InvalidParameter(name=TIMEOUT_HEADER, value=asked[:100], expected=expected)])
    return int(asked) / 1000
