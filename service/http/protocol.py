"""HTTP/1.1 for high load and for clients of every kind; the protocol class that uvicorn uses for each connection.

A connection is one object in three parts: `reading` turns bytes into requests, `closing` ends the connection, and this
module answers. On the fast path, a small request that has arrived completely is answered in one write, without a task
and without ASGI messages; handler and pipeline are the same as on the standard path.
`python -m scripts.trace_request --path fast standard` counts the calls that this saves; `python -m bench` measures
request rates, and rejections under overload.

Prediction requests wait in the backlog. Under overload most requests are rejected, so a rejection must be cheap: the
answer is rendered once for many requests, and sent as soon as a head is seen, before it is parsed. If that is not safe
(no plain Content-Length, a client that waits for "100 Continue", a very large body), the request takes the standard
path and is rejected there.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, ClassVar, Final, cast

import uvicorn
from starlette.requests import ClientDisconnect
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.errors import SettingsError
from service.http.closing import PATHS, ClosingProtocol
from service.http.errors import problem_answer, problem_of
from service.http.exchange import TICKET_KEY, Answer, EagerCall, HttpExchange, encode_answer, new_trace
from service.http.middleware import Application, logged_error_answer
from service.http.reading import HEAD_END, MAX_HEADERS, ConnectionLimits
from service.inference.admission import Backlog, Rejection, Ticket
from service.process.lifecycle import Stop

PLAIN_PATHS: Final = (b"/v1/", b"/v2/")
WELL_FORMED_HEAD: Final = re.compile(
    rb"POST [\x21-\x7e]++ HTTP/1\.[01]"
    rb"(?:\r\n(?![Hh][Oo][Ss][Tt]:)[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t\x20-\x7e\x80-\xff]*+)*+"
    rb"\r\n[Hh][Oo][Ss][Tt]:[ \t]*+[A-Za-z0-9.-]*+(?::[0-9]{0,5}+)?+[ \t]*+"
    rb"(?:\r\n(?![Hh][Oo][Ss][Tt]:)[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t\x20-\x7e\x80-\xff]*+)*+"
)
"""A head with one plain Host; all others are left to the parser."""
CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,10})[ \t]*(?:\r\n(?![ \t])|\Z)")
UNUSUAL: Final = (b"transfer-encoding", b"expect", b"upgrade")
CLOSING: Final = re.compile(rb" http/1\.0(?:\r\n|\Z)|\r\nconnection:(?![ \t]*keep-alive[ \t]*(?:\r\n|\Z))")
MAX_SKIPPED_BYTES: Final = 2**20
MAX_EARLY_HEAD_BYTES: Final = 4096

MAX_WHOLE_BYTES: Final = 128 * 2**10
"""Size limit of the fast path: reading and parsing this much on the event loop delays nobody."""
MAX_PIPELINED_STARTS_PER_TICK: Final = 8
HOOKS: Final = (
    *("connection_made", "data_received", "eof_received", "connection_lost", "pause_writing", "resume_writing"),
    *("on_message_begin", "on_header", "on_headers_complete", "on_body", "on_message_complete", "on_response_complete"),
    *("_start_asgi_task", "shutdown"),
)
"""Methods of uvicorn's protocol that are overridden or called here; if one is missing, its structure has changed."""


@dataclass(frozen=True, slots=True)
class Head:
    """The facts about a rejected request that decide its answer.

    `closes`: the connection is closed after the answer; `plain`: errors have the form `{"error": "…"}`.
    """

    target: bytes
    body_bytes: int
    closes: bool
    plain: bool

    @property
    def form(self) -> tuple[bool, bool]:
        """The key by which answers are shared."""
        return self.plain, self.closes


@lru_cache(maxsize=1024)
def read_head(head: bytes, root_path: bytes = b"") -> Head | None:
    """Parse the bytes of a head; return None if only the full parser can decide.

    Args:
        root_path: the prefix that a proxy may have left in front of the path.
    """
    if WELL_FORMED_HEAD.fullmatch(head) is None or head.count(b"\r\n") > MAX_HEADERS:
        return None
    low = head.lower()
    length = CONTENT_LENGTH.search(low)
    if length is None or low.count(b"content-length") != 1 or any(name in low for name in UNUSUAL):
        return None
    target = head.split(b" ", 2)[1]
    return Head(
        target=target,
        body_bytes=int(length[1]),
        closes=CLOSING.search(low) is not None,
        plain=target.removeprefix(root_path).startswith(PLAIN_PATHS),
    )


def rejectable(data: bytes, root_path: bytes) -> tuple[Head, int] | None:
    """Return the head of a request that may be rejected unparsed, and the number of body bytes still to come.

    Args:
        data: the bytes received on a connection without other requests.
        root_path: as for `read_head`.
    """
    end = data.find(HEAD_END)
    head = read_head(data[:end], root_path) if 0 < end <= MAX_EARLY_HEAD_BYTES else None
    if head is None:
        return None
    missing = head.body_bytes - (len(data) - end - len(HEAD_END))
    if missing < 0 or missing > MAX_SKIPPED_BYTES or (missing and head.closes):
        return None
    return head, missing


def rejection_answer(rejection: Rejection, *, plain: bool) -> Answer:
    """Return the answer to all requests that are rejected for the same reason."""
    retry = (b"retry-after", b"%d" % rejection.error.retry_after_s)
    return problem_answer(problem_of(rejection.error), "/v2" if plain else "/predict", [retry])


class _PipelinedStarts:
    """Starts requests that were queued behind others on their connections, a few per tick of the event loop.

    However many there are, new connections and connections with single requests come in between.
    """

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._queue: deque[Callable[[], None]] = deque()

    def add(self, loop: asyncio.AbstractEventLoop, start: Callable[[], None]) -> None:
        """Call this in one of the next ticks."""
        self._queue.append(start)
        if len(self._queue) == 1:
            loop.call_soon(self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(min(MAX_PIPELINED_STARTS_PER_TICK, len(self._queue))):
            loop.call_soon(self._queue.popleft())
        if self._queue:
            loop.call_soon(self._tick, loop)
        if self._backlog.on_tick is not None:
            self._backlog.on_tick()


class BacklogProtocol(ClosingProtocol):
    """One connection. `protocol_with` creates the class that uvicorn uses."""

    backlog: ClassVar[Backlog]
    pipelined_starts: ClassVar[_PipelinedStarts]
    first_bytes: ClassVar[tuple[bytes, ...]]

    def data_received(self, data: bytes) -> None:
        """Reject a request, or parse it."""
        if self._ends:
            self._discard(len(data))
            return
        if self._skip_bytes:
            skipped = min(self._skip_bytes, len(data))
            self._skip_bytes -= skipped
            data = data[skipped:]
            if not self._skip_bytes:
                self._since_s = self.loop.time()
            if not data:
                return
        if not self.backlog.rejects or not self._reject(data):
            self._receive(data)

    def on_response_complete(self) -> None:
        """Start the next request, or wait for one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._since_s = self.loop.time()
        if self.pipeline:
            self.pipelined_starts.add(self.loop, self._start_next)
        elif self._last_words is not None:
            self._say_last_words(self._last_words)
        elif self._had_eof and not self._waits_for_room:
            self.transport.close()
        if self._waits_for_room:
            self.pipelined_starts.add(self.loop, self._parse_what_waits)
        elif self.flow.read_paused:
            self.flow.resume_reading()

    def _start_next(self) -> None:
        if not self.pipeline or self.transport.is_closing():
            return
        cycle, _ = self.pipeline.pop()
        self._current = cycle
        self._since_s = self.loop.time()
        self._start(cycle)

    def _parse_what_waits(self) -> None:
        if not self._waits_for_room or self._ends or self.transport.is_closing():
            return
        self._receive(b"")
        if self._had_eof and not self._waits_for_room:
            self._end_input()

    # Rejecting requests before parsing

    def _reject(self, data: bytes) -> bool:
        """Send a rejection; return False if the request must not be rejected, or not here."""
        if self.stop.is_requested or self.flow.write_paused or not data.startswith(self.first_bytes):
            return False
        found = rejectable(data, self.root_path_bytes) if self._is_between_requests() else None
        rejection = self.backlog.rejection(found[0].target) if found is not None else None
        if found is None or rejection is None:
            return False
        head, self._skip_bytes = found
        self.backlog.rejected(rejection)
        response = rejection.responses.get(head.form)
        if response is None:
            answer = rejection_answer(rejection, plain=head.plain)
            response = rejection.responses[head.form] = self._encode(answer, None, closes=head.closes)
        self.transport.write(response)
        if head.closes:
            self.transport.close()
        else:
            self._since_s = self.loop.time()
        return True

    # Answering requests

    def _start(self, cycle: RequestResponseCycle) -> None:
        scope = cast("Scope", cycle.scope)
        # The target as it was sent, which is how an early rejection knows it.
        raw_path, query = scope["raw_path"], scope["query_string"]
        forwarding = self.application.forwarding
        path = scope["path"] if forwarding.is_off else forwarding.resolve(scope)
        if scope["method"] != "POST" or not path.startswith(PATHS):
            self._start_asgi_task(cycle, self.app)
            return
        ticket = scope[TICKET_KEY] = Ticket(self.backlog, raw_path + b"?" + query if query else raw_path)
        if self.backlog.rejects and (rejection := self.backlog.rejection(ticket.target)) is not None:
            ticket.rejected = rejection.error
            self._start_asgi_task(cycle, self.app)
            return
        start = partial(self.backlog.add, ticket.target, partial(self._begin, cycle, ticket, path))
        if self._is_parsing:
            self._queued_start = start
        else:
            start()

    def _begin(self, cycle: RequestResponseCycle, ticket: Ticket, path: str, waited_s: float) -> None:
        ticket.waited_s = waited_s
        if waited_s and self.backlog.rejects and (rejection := self.backlog.exhausted(ticket.target)) is not None:
            ticket.rejected = rejection.error
        hot = None
        if cycle.disconnected:
            ticket.rejected = ClientDisconnect()
        elif not (cycle.more_body or cycle.waiting_for_100_continue or self.flow.write_paused):
            hot = self.application.routes.find(path) if len(cycle.body) <= MAX_WHOLE_BYTES else None
        if hot is None:
            self._start_asgi_task(cycle, self.app)
            return
        scope, application = cast("Scope", cycle.scope), self.application
        scope["path_params"] = hot.path_params
        trace = new_trace(scope, path, application.request_ids.of(scope), ticket)
        trace.is_inference = True
        exchange = HttpExchange(scope, trace, ticket, application.settings, bytes(cycle.body))
        EagerCall(hot.handler(exchange), partial(self._reply, cycle, exchange), self._wait_for).step()

    def _wait_for(self, answer: "asyncio.Future[Any]") -> None:
        """Cancel this future when the client disconnects, or when a shutdown has no time left."""
        self._answer = answer
        if self.stop.is_requested:
            self._have_waited_for(answer)

    def _reply(self, cycle: RequestResponseCycle, exchange: HttpExchange, outcome: Answer | BaseException) -> None:
        """Send the complete answer to a request in one write."""
        self._answer = None
        trace = exchange.trace
        if isinstance(outcome, Answer):
            answer = outcome
        else:
            is_gone = isinstance(outcome, asyncio.CancelledError) and cycle.disconnected
            answer = logged_error_answer(ClientDisconnect() if is_gone else outcome, exchange)
        trace.status = answer.status
        if not cycle.disconnected:
            headers, request_id = tuple(self.server_state.default_headers), trace.request_id.encode()
            self.transport.write(encode_answer(answer, headers, request_id, closes=not cycle.keep_alive))
            cycle.response_started = cycle.response_complete = True
            if not cycle.keep_alive:
                self.transport.close()
            self.on_response_complete()
        trace.finish(self.application.observers)


def protocol_with(
    backlog: Backlog, application: Application, stop: Stop | None = None, *, limits: ConnectionLimits | None = None
) -> type[BacklogProtocol]:
    """Return a protocol class for a server with this backlog.

    Args:
        application: the application, whose hot routes answer small requests without ASGI.
        stop: the shutdown; once requested, answers announce that their connection closes.
        limits: the limits of each connection.

    Raises:
        SettingsError: the methods of this uvicorn's protocol differ from those used here.
    """
    missing = [name for name in HOOKS if not callable(getattr(HttpToolsProtocol, name, None))]
    if missing:
        raise SettingsError(
            f"uvicorn {uvicorn.__version__} has no {', '.join(missing)} in its HTTP protocol",
            expected="a version that pyproject.toml allows",
            remedy="install requirements/serve.txt",
        )
    root_path = application.forwarding.root_path
    roots = dict.fromkeys(("", root_path))
    attributes = {
        "backlog": backlog,
        "application": application,
        "stop": stop or Stop(),
        "first_bytes": tuple(f"POST {root}{path}".encode() for root in roots for path in PATHS),
        "root_path_bytes": root_path.encode(),
        "limits": limits or ConnectionLimits(),
        "pipelined_starts": _PipelinedStarts(backlog),
    }
    return type("Protocol", (BacklogProtocol,), attributes)
