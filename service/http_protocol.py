"""HTTP as uvicorn speaks it, but for load: requests for predictions wait in a backlog, or are refused unparsed.

Under overload most requests are refused, so it must cost next to nothing: the answer to one that is refused is made
once for many, and sent when its head is seen. Where that is not safe (no plain Content-Length, a client that waits for
"100 Continue", a very large body, pipelining), the request takes the usual way, on which it is refused, too.

A request for a prediction that is there as a whole when it is begun is answered without a task of its own, and in one
piece, by `service.api.direct_predict`, if that takes it.
"""

import asyncio
import re
import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, ClassVar, Final, cast

from starlette.requests import ClientDisconnect
from starlette.types import Scope
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.api.direct_predict import DirectPredict
from service.api.plain_errors import plain_error
from service.api.predict import PATH as DIRECT_PATH
from service.api.problems import PROBLEM_TYPE, problem_response
from service.core.backlog import Backlog, Begun, Refusal
from service.forwarding import Forwarding, route_path
from service.observing import BEGUN
from service.security_headers import SECURITY_HEADERS
from service.stopping import Stop

PATHS: Final = ("/predict", "/compare", "/explain", "/v1/models/", "/v2/models/")
"""What begins so, asked with POST, asks for predictions."""
PLAIN_PATHS: Final = (b"/v1/", b"/v2/")
HEAD_END: Final = b"\r\n\r\n"
CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,10})[ \t]*(?:\r\n(?![ \t])|\Z)")
UNUSUAL: Final = (b"transfer-encoding", b"expect", b"upgrade")
CLOSE: Final = re.compile(rb" http/1\.0(?:\r\n|\Z)|\r\nconnection:(?![ \t]*keep-alive[ \t]*(?:\r\n|\Z))")
MOST_SKIPPED_BYTES: Final = 2**20
MOST_HEAD_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Head:
    """What there is to know of a request that is refused.

    `closes`: its connection is closed after the answer; `plain`: its errors are `{"error": "…"}`.
    """

    target: bytes
    body_bytes: int
    closes: bool
    plain: bool

    @property
    def form(self) -> tuple[bool, bool]:
        """Requests of the same form get the same answer."""
        return self.plain, self.closes


@lru_cache(maxsize=1024)
def read_head(head: bytes, root_path: bytes = b"") -> Head | None:
    """Of the bytes of a head, None where it has anything that the parser alone should decide on.

    Args:
        root_path: the prefix that a proxy may have left in front of the path.
    """
    low = head.lower()
    length = CONTENT_LENGTH.search(low)
    if length is None or low.count(b"content-length") != 1 or any(name in low for name in UNUSUAL):
        return None
    target = head.split(b" ", 2)[1]
    return Head(
        target=target,
        body_bytes=int(length[1]),
        closes=CLOSE.search(low) is not None,
        plain=target.removeprefix(root_path).startswith(PLAIN_PATHS),
    )


class _WholeRequest:
    """A request whose body has been received, on its connection: a `service.api.direct_predict.WholeRequest`."""

    __slots__ = ("_cycle", "_protocol", "begun", "body", "scope")

    def __init__(self, protocol: "BacklogProtocol", cycle: RequestResponseCycle, begun: Begun) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self.begun = begun
        self.scope = cast("Scope", cycle.scope)
        self.body = bytes(cycle.body)

    @property
    def is_gone(self) -> bool:
        return self._cycle.disconnected

    def waits(self, answer: "asyncio.Future[Any]") -> None:
        self._protocol.wait_for(answer)

    def reply(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        self._protocol.reply(self._cycle, status, headers, body)


class BacklogProtocol(HttpToolsProtocol):
    """One connection. `protocol_with` makes the class that uvicorn is given."""

    backlog: ClassVar[Backlog]
    direct: ClassVar[DirectPredict | None]
    stop: ClassVar[Stop]
    forwarding: ClassVar[Forwarding]
    first_bytes: ClassVar[tuple[bytes, ...]]
    root_path_bytes: ClassVar[bytes]
    _is_parsing = False
    _unbegun: Callable[[], None] | None = None
    """Begins the request whose head was parsed, once all that was received is."""
    _answer: "asyncio.Future[Any] | None" = None
    _skip_bytes = 0
    """What still comes of the body of a request that was refused."""
    _refused_s: float | None = None

    def data_received(self, data: bytes) -> None:
        """Refuse a request, or have it parsed."""
        if self._skip_bytes:
            skipped = min(self._skip_bytes, len(data))
            self._skip_bytes -= skipped
            data = data[skipped:]
            if not data:
                return
        may_refuse = (
            self.backlog.refuses
            and not self.stop.is_requested
            and data.startswith(self.first_bytes)
            and self._is_between_requests()
        )
        if may_refuse and self._refuse(data):
            return
        self._is_parsing = True
        super().data_received(data)
        self._is_parsing = False
        if self._unbegun is not None:
            begin, self._unbegun = self._unbegun, None
            begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for the answer any more."""
        super().connection_lost(exc)
        if self._answer is not None:
            self._answer.cancel()

    def shutdown(self) -> None:
        """Have the last answer under way say that the connection closes; an idle one is left to `close_if_idle`."""
        if self.cycle is not None and not self.cycle.response_complete and not self.pipeline:
            self.cycle.keep_alive = False

    def close_if_idle(self) -> None:
        """Close the connection if nothing is asked on it, and nothing that was sent is still to be read."""
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and not self.transport.is_closing() and not _has_unread_bytes(self.transport):
            self.transport.close()

    def wait_for(self, answer: "asyncio.Future[Any]") -> None:
        """See `WholeRequest.waits`; uvicorn waits for it before it stops, and cancels it at last."""
        self._answer = answer
        self.tasks.add(answer)  # type: ignore[arg-type]  # all that it asks of a task a future has, too
        answer.add_done_callback(self.tasks.discard)

    def reply(
        self, cycle: RequestResponseCycle, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> None:
        """Send the whole answer to the request of a cycle in one piece."""
        self._answer = None
        if cycle.disconnected:
            return
        lines = [b"%s: %s\r\n" % header for header in (*self.server_state.default_headers, *headers)]
        close = b"" if cycle.keep_alive else b"connection: close\r\n"
        self.transport.write(b"".join((STATUS_LINE[status], *lines, close, b"\r\n", body)))
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _is_between_requests(self) -> bool:
        cycle = self.cycle
        if cycle is None:
            return self.scope is None  # nothing was ever parsed here
        return cycle.response_complete and not cycle.more_body and cycle.scope is self.scope

    def _refuse(self, data: bytes) -> bool:
        """Send a refusal; False where the request is not to be refused, or not here."""
        end = data.find(HEAD_END)
        head = read_head(data[:end], self.root_path_bytes) if 0 < end <= MOST_HEAD_BYTES else None
        if head is None or self.flow.write_paused:
            return False
        missing = head.body_bytes - (len(data) - end - len(HEAD_END))
        if missing < 0 or missing > MOST_SKIPPED_BYTES or (missing and head.closes):
            return False
        refusal = self.backlog.refusal(head.target)
        if refusal is None:
            return False
        self._skip_bytes = missing
        self.backlog.refused(refusal)
        self.transport.write(self._response(refusal, head))
        if head.closes:
            self.transport.close()
            return True
        self._refused_s = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._arm_keep_alive(self.timeout_keep_alive)
        return True

    def _response(self, refusal: Refusal, head: Head) -> bytes:
        known = refusal.responses.get(head.form)
        if known is None:
            known = refusal.responses[head.form] = self._make_response(refusal, plain=head.plain, closes=head.closes)
        return known

    def _make_response(self, refusal: Refusal, *, plain: bool, closes: bool) -> bytes:
        response = problem_response(refusal.error)
        body, media_type = bytes(response.body), PROBLEM_TYPE
        if plain:
            body, media_type = plain_error(body), "application/json"
        headers = [
            *self.server_state.default_headers,
            *SECURITY_HEADERS,
            (b"retry-after", b"%d" % refusal.error.retry_after_s),
            (b"content-type", media_type.encode()),
            (b"content-length", b"%d" % len(body)),
            *([(b"connection", b"close")] if closes else []),
        ]
        lines = [b"HTTP/1.1 503 Service Unavailable", *(b"%s: %s" % header for header in headers)]
        return b"\r\n".join(lines) + HEAD_END + body

    def _arm_keep_alive(self, after_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(after_s, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, unless a request was refused on it meanwhile."""
        if self._refused_s is not None:
            left_s = self._refused_s + self.timeout_keep_alive - self.loop.time()
            self._refused_s = None
            if left_s > 0:
                self._arm_keep_alive(left_s)
                return
        super().timeout_keep_alive_handler()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self.stop.is_requested and not self.pipeline:
            cycle.keep_alive = False
        scope = cycle.scope
        raw_path = scope["raw_path"]  # as it was sent, which is how an early rejection knows it
        self.forwarding.resolve(cast("Scope", scope))
        if scope["method"] != "POST" or not route_path(cast("Scope", scope)).startswith(PATHS):
            super()._start_asgi_task(cycle, app)
            return
        query = scope["query_string"]
        target = raw_path + b"?" + query if query else raw_path
        begun = Begun(self.backlog, target)
        scope[BEGUN] = begun  # type: ignore[typeddict-unknown-key]
        if self.backlog.refuses and (refusal := self.backlog.refusal(target)) is not None:
            begun.refused = refusal.error
            super()._start_asgi_task(cycle, app)
            return
        begin = partial(self.backlog.add, target, partial(self._begin, cycle, app, begun))
        if self._is_parsing:
            self._unbegun = begin
        else:
            begin()

    def _begin(self, cycle: RequestResponseCycle, app: ASGI3Application, begun: Begun, waited_s: float) -> None:
        begun.waited_s = waited_s
        if cycle.disconnected:
            begun.refused = ClientDisconnect()
        elif self._is_answered_directly(cycle, begun):
            return
        super()._start_asgi_task(cycle, app)

    def _is_answered_directly(self, cycle: RequestResponseCycle, begun: Begun) -> bool:
        if self.direct is None or route_path(cast("Scope", cycle.scope)) != DIRECT_PATH:
            return False
        if cycle.more_body or cycle.waiting_for_100_continue or self.flow.write_paused:
            return False
        return self.direct.begin(_WholeRequest(self, cycle, begun))


def _has_unread_bytes(transport: asyncio.Transport) -> bool:
    descriptor = transport.get_extra_info("socket").fileno()
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def protocol_with(
    backlog: Backlog,
    direct: DirectPredict | None = None,
    stop: Stop | None = None,
    forwarding: Forwarding | None = None,
) -> type[BacklogProtocol]:
    """The protocol of a server whose requests for predictions wait in this backlog.

    Args:
        direct: answers those that it can.
        stop: from its request on, answers say that their connection closes.
        forwarding: puts requests right that come through proxies.
    """
    forwarding = forwarding or Forwarding()
    roots = dict.fromkeys(("", forwarding.root_path))
    attributes = {
        "backlog": backlog,
        "direct": direct,
        "stop": stop or Stop(),
        "forwarding": forwarding,
        "first_bytes": tuple(f"POST {root}{path}".encode() for root in roots for path in PATHS),
        "root_path_bytes": forwarding.root_path.encode(),
    }
    return type("Protocol", (BacklogProtocol,), attributes)
