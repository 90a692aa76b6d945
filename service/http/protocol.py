"""HTTP/1.1 for load and for clients of every kind; uvicorn's protocol, with the reading of requests done here.

Under overload most requests are rejected, so it must cost next to nothing: the answer to one that is rejected is made
once for many, and sent when its head is seen. Where that is not safe (no plain Content-Length, a client that waits for
"100 Continue", a very large body, pipelining), the request takes the standard path, on which it is rejected, too.

A small request for a prediction that has arrived whole when its turn comes is answered without a task of its own and
without ASGI's messages, in one write; its handler and its pipeline are those of every other request. `python -m
scripts.trace_request --path fast standard` counts the calls that this saves; `python -m bench` measures rates, and
rejections under overload.

The parser is given whole heads and what follows them exactly, so that heads have limits, an offer to upgrade the
protocol can be passed over, and of pipelined requests only a few are parsed before their turn comes.
"""

import asyncio
import re
import select
import urllib.parse
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any, ClassVar, Final, cast

import httptools
import uvicorn
from starlette.requests import ClientDisconnect
from starlette.types import Scope
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.errors import (
    CLIENT_GONE,
    InvalidRequestError,
    RequestError,
    SettingsError,
    UploadTimeoutError,
    clear_traceback,
)
from service.http.body import upload_timeout
from service.http.eager import EagerCall
from service.http.errors import CLOSE as CLOSE_HEADER
from service.http.errors import Answer, problem_answer, problem_of
from service.http.exchange import Handler, WholeExchange
from service.http.forwarding import route_path
from service.http.half_closed import HalfClosedTransport
from service.http.head import (
    HEAD_END,
    MAX_HEADERS,
    MAX_TARGET_BYTES,
    ConnectionLimits,
    check_fields,
    check_partial_head,
    framing_too_large,
    malformed,
    normal_head,
    target_of,
    target_too_long,
    too_many_headers,
    without_offer,
)
from service.http.middleware import (
    BODY_COMPLETE,
    LINGER_BYTES,
    LINGER_S,
    SECURITY_HEADERS,
    Application,
    logged_error_answer,
)
from service.http.request_trace import REQUEST_ID, TICKET_KEY, client_of, new_trace, notify_finished
from service.inference.admission import Backlog, Rejection, Ticket
from service.process.stopping import Stop
from service.telemetry.trace import Trace

PATHS: Final = ("/predict", "/compare", "/explain", "/v1/models/", "/v2/models/")
"""Path prefixes of predictions, which are requested with POST."""
PLAIN_PATHS: Final = (b"/v1/", b"/v2/")
WELL_FORMED_HEAD: Final = re.compile(
    rb"POST [\x21-\x7e]++ HTTP/1\.[01]"
    rb"(?:\r\n(?![Hh][Oo][Ss][Tt]:)[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t\x20-\x7e\x80-\xff]*+)*+"
    rb"\r\n[Hh][Oo][Ss][Tt]:[ \t]*+[A-Za-z0-9.-]*+(?::[0-9]{0,5}+)?+[ \t]*+"
    rb"(?:\r\n(?![Hh][Oo][Ss][Tt]:)[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t\x20-\x7e\x80-\xff]*+)*+"
)
"""Head with one plain Host; any other is left to the parser."""
CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,10})[ \t]*(?:\r\n(?![ \t])|\Z)")
UNUSUAL: Final = (b"transfer-encoding", b"expect", b"upgrade")
CLOSE: Final = re.compile(rb" http/1\.0(?:\r\n|\Z)|\r\nconnection:(?![ \t]*keep-alive[ \t]*(?:\r\n|\Z))")
MAX_SKIPPED_BYTES: Final = 2**20
MAX_EARLY_HEAD_BYTES: Final = 4096
NOTED: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
MAX_WHOLE_BYTES: Final = 32 * 2**10
"""Reading and parsing so much on the event loop holds up nobody else."""
MAX_PIPELINED: Final = 8
"""Requests that are parsed before their turn; each takes kilobytes, and may be as short as 18 bytes when it is sent."""
MAX_PIPELINED_STARTS_PER_TICK: Final = 8
FRAMING_BYTES_A_BODY_BYTE: Final = 16
"""Framing of a chunked body allowed beside `max_header_bytes`: one-byte chunks are unusual, but legal."""
FIRST_PROBE_S: Final = 0.02
LAST_PROBE_S: Final = 1.0
UNREAD_ANSWER_S: Final = 60.0
"""Time for which a client may read nothing of its answer."""
MIN_LOOK_S: Final = 0.05
MAX_NOTED_PATH_BYTES: Final = 200
HOOKS: Final = (
    *("connection_made", "data_received", "eof_received", "connection_lost", "pause_writing", "resume_writing"),
    *("on_message_begin", "on_header", "on_headers_complete", "on_body", "on_message_complete", "on_response_complete"),
    *("_start_asgi_task", "shutdown"),
)
"""Methods of uvicorn's protocol that are overridden here; where one is missing it would never be called."""
PARTIAL_HEAD_ENDS: Final = tuple(HEAD_END[:size] for size in (3, 2, 1))


@dataclass(frozen=True, slots=True)
class Head:
    """Properties of a rejected request that decide its answer.

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
    """Parse the bytes of a head; None if only the full parser can decide on it.

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
        closes=CLOSE.search(low) is not None,
        plain=target.removeprefix(root_path).startswith(PLAIN_PATHS),
    )


class _Flow(FlowControl):
    """Reads no more while there is something to parse that waits, or nothing to read ever again."""

    is_held = False

    def resume_reading(self) -> None:
        if not self.is_held:
            super().resume_reading()


class _Turns:
    """Begins the requests that stood behind others on their connections, a few in each tick of the event loop.

    However many they are, connections that ask one thing at a time, and new ones, come in between.
    """

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._waiting: deque[Callable[[], None]] = deque()

    def add(self, loop: asyncio.AbstractEventLoop, begin: Callable[[], None]) -> None:
        """Call this in one of the next ticks."""
        self._waiting.append(begin)
        if len(self._waiting) == 1:
            loop.call_soon(self._take, loop)

    def _take(self, loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(min(MAX_PIPELINED_STARTS_PER_TICK, len(self._waiting))):
            loop.call_soon(self._waiting.popleft())
        if self._waiting:
            loop.call_soon(self._take, loop)
        if self._backlog.on_tick is not None:
            self._backlog.on_tick()


class BacklogProtocol(HttpToolsProtocol):
    """One connection. `protocol_with` makes the class that uvicorn is given."""

    backlog: ClassVar[Backlog]
    application: ClassVar[Application]
    stop: ClassVar[Stop]
    first_bytes: ClassVar[tuple[bytes, ...]]
    root_path_bytes: ClassVar[bytes]
    limits: ClassVar[ConnectionLimits]
    turns: ClassVar[_Turns]

    flow: _Flow
    url = b""
    _is_parsing = False
    _last_cycle: RequestResponseCycle | None = None
    """Whose answer says, in a stop, that the connection closes."""
    _queued_start: Callable[[], None] | None = None
    """Begins the request whose head was parsed, once all that was received is."""
    _answer: "asyncio.Future[Any] | None" = None
    _skip_bytes = 0
    """Bytes still to come of a rejected request's body."""
    _current: RequestResponseCycle | None = None
    """The request that is being answered; uvicorn's `cycle` is the one that was parsed last."""
    _unparsed: bytes = b""
    """Received, but not given to the parser: part of a head, or whole requests that wait for those before them."""
    _waits_for_room = False
    """True if `_unparsed` holds whole requests."""
    _is_at_head = True
    """True while the parser is between requests: one is complete, and nothing of the next has been parsed."""
    _is_head_partial = False
    """True if part of the next head has arrived, even if only empty lines."""
    _is_chunked = False
    _body_left_bytes = 0
    _body_bytes = 0
    _framing_bytes = 0
    """Bytes of empty lines before a head, or of the chunk framing around a body."""
    _trailers = 0
    _since_s: float | None = None
    """Since when the client owes us something: a request, the rest of its head or of its body."""
    _timer: asyncio.TimerHandle | None = None
    _unread_since_s: float | None = None
    _ends = False
    """True while nothing more is parsed on this connection."""
    _last_words: bytes | None = None
    """The answer to a malformed request, which is sent when those before it are answered."""
    _is_lingering = False
    _lingering_bytes = 0
    _had_eof = False
    _probe_timer: asyncio.TimerHandle | None = None

    # Called by the event loop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request."""
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self._since_s = self.loop.time()
        self._timer = self.loop.call_later(self._look_after_s, self._look)

    def data_received(self, data: bytes) -> None:
        """Reject a request, or have it parsed."""
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
        may_reject = (
            self.backlog.rejects
            and not self.stop.is_requested
            and data.startswith(self.first_bytes)
            and self._is_between_requests()
        )
        if may_reject and self._reject(data):
            return
        self._receive(data)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Keep the connection open where the client may still wait for an answer."""
        if self._is_lingering or self.transport.is_closing():
            return None
        self._had_eof = True
        self.flow.is_held = True
        if not self._waits_for_room:
            self._end_input()
        if self._is_lingering or self.transport.is_closing() or self._is_idle():
            return None
        self._await_answers_half_closed()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for the answers any more.

        Nothing may be left that refers to itself, such as a request in line: garbage is rarely looked for
        (`service.process.memory`).
        """
        current = self._current
        if current is not None:
            current.disconnected = current.disconnected or not current.response_complete
            current.message_event.set()
        queued = list(self.pipeline)
        self.pipeline.clear()
        self.cycle = None  # type: ignore[assignment]
        super().connection_lost(exc)
        for timer in (self._timer, self._probe_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._probe_timer = self._current = None
        self._unparsed = b""
        self._waits_for_room = False
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.cancel()
        for cycle, _ in reversed(queued):
            cycle.disconnected = True
            self._notify_unanswered(cast("Scope", cycle.scope))

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        super().pause_writing()
        self._unread_since_s = self.loop.time()

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        self._unread_since_s = None

    def shutdown(self) -> None:
        """Have the last answer under way say that the connection closes; an idle one is left to `close_if_idle`."""
        self._announce_close()

    def _announce_close(self) -> None:
        """Let the connection end with the answer to the last request that was sent, not with one before it."""
        last, announced = self.cycle, self._last_cycle
        if last is None or last.response_complete or last is announced or not last.keep_alive:
            return
        if self._waits_for_room or (self.flow.read_paused and _has_unread_bytes(self.transport)):
            return  # it isn't the last
        if announced is not None and not announced.response_started:
            announced.keep_alive = True
        last.keep_alive, self._last_cycle = False, last

    def close_if_idle(self) -> None:
        """Close the connection if nothing is asked on it, and nothing that was sent is still to be read."""
        if self._is_idle() and not self.transport.is_closing() and not _has_unread_bytes(self.transport):
            self.transport.close()

    def _end_input(self) -> None:
        """Take note that nothing more will come."""
        if self._ends:
            return
        if not self._is_at_head:
            self._fail(malformed("it ends in the middle of its body"))
        elif self._unparsed:
            self._fail(malformed("it ends in the middle of its head"))
        self._ends = True

    def _await_answers_half_closed(self) -> None:
        transport = HalfClosedTransport(self.transport)
        self.transport = transport
        for cycle in (self._current, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None:
                cycle.transport = transport
        self._probe_timer = self.loop.call_later(FIRST_PROBE_S, self._probe, transport, 2 * FIRST_PROBE_S)

    def _probe(self, transport: HalfClosedTransport, next_s: float) -> None:
        """Find out if the client has gone: then the first byte is answered by a reset, and the second fails."""
        self._probe_timer = None
        current = self._current
        if transport.is_closing() or current is None:
            return
        if current.response_started or transport.send_early():
            self._probe_timer = self.loop.call_later(next_s, self._probe, transport, min(2 * next_s, LAST_PROBE_S))

    # Reading requests

    def _receive(self, data: bytes) -> None:
        if self._unparsed:
            data, self._unparsed = self._unparsed + data, b""
        self._is_parsing = True
        try:
            self._parse(data)
        except RequestError as error:
            clear_traceback(error)
            self._fail(error)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._fail(cause if isinstance(cause, RequestError) else malformed(str(error)))
        self._is_parsing = False
        if self._waits_for_room:
            self.flow.is_held = True
            self.flow.pause_reading()
        elif self.flow.is_held and not self._had_eof:
            self.flow.is_held = False
            self.flow.resume_reading()
        if self._since_s is None and not self._is_at_head:
            self._since_s = self.loop.time()
        if self.stop.is_requested:
            self._announce_close()
        if self._queued_start is not None:
            begin, self._queued_start = self._queued_start, None
            begin()

    def _parse(self, data: bytes) -> None:
        """Give the parser what it can be given; the rest is left in `_unparsed`."""
        start, size = 0, len(data)
        self._waits_for_room = False
        while start < size and not self._ends:
            if not self._is_at_head:
                start = self._parse_chunks(data, start) if self._is_chunked else self._parse_body(data, start)
            elif len(self.pipeline) >= MAX_PIPELINED:
                self._unparsed, self._waits_for_room = data[start:], True
                return
            elif data[start] in b"\r\n":
                end = size - len(data[start:].lstrip(b"\r\n"))
                self._note_partial_head()
                self._count_framing(end - start)
                start = end
            elif (end := data.find(HEAD_END, start)) >= 0:
                end += len(HEAD_END)
                self._parse_head(data[start:end])
                start = end
            else:
                self._note_partial_head()
                self._hold_partial_head(data[start:])
                return

    def _note_partial_head(self) -> None:
        """Have the time for a head run, which it has from its first byte on."""
        if not self._is_head_partial:
            self._is_head_partial = True
            self._since_s = self.loop.time()

    def _hold_partial_head(self, head: bytes) -> None:
        self.url = b""
        try:
            check_partial_head(head, self.limits.max_header_bytes)
        except RequestError:
            self.url = target_of(head)
            raise
        self._unparsed = head

    def _parse_head(self, head: bytes) -> None:
        self._is_head_partial = self._is_chunked = False
        self._since_s = None
        self._trailers = self._body_left_bytes = self._framing_bytes = 0
        try:
            head = normal_head(head, self.limits.max_header_bytes)
        except RequestError:
            self.url = target_of(head)
            raise
        try:
            self.parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass
        else:
            return
        # RFC 9110, 7.8: a server may ignore the offer. The parser can't, unless it doesn't see it; and where the client
        # wants the connection closed, too, this one takes nothing more.
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(without_offer(head))

    def _parse_body(self, data: bytes, start: int) -> int:
        end = min(len(data), start + self._body_left_bytes)
        self._body_left_bytes -= end - start
        self.parser.feed_data(memoryview(data)[start:end])
        return end

    def _parse_chunks(self, data: bytes, start: int) -> int:
        """Give the parser at most all of this request: a chunked body, and only that or its content, has an empty line.

        So the next head is never given with it.
        """
        end = data.find(HEAD_END, start) + len(HEAD_END)
        held = b""
        if end < len(HEAD_END):
            end = len(data)
            held = next((part for part in PARTIAL_HEAD_ENDS if data.endswith(part, start)), b"")
        body_bytes = self._body_bytes
        self.parser.feed_data(memoryview(data)[start : end - len(held)])
        self._count_framing(end - start - FRAMING_BYTES_A_BODY_BYTE * (self._body_bytes - body_bytes))
        self._unparsed = held
        return end

    def _count_framing(self, size: int) -> None:
        self._framing_bytes = max(0, self._framing_bytes + size)
        if self._framing_bytes > self.limits.max_header_bytes:
            raise framing_too_large(self.limits.max_header_bytes)

    # Called by the parser

    def on_message_begin(self) -> None:
        """Take note of a request."""
        super().on_message_begin()
        self._hosts: list[bytes] = []
        self._transfer_codings: list[bytes] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take note of a header. One that comes behind the body may not pass for one that came before it."""
        if not self._is_at_head:
            self._trailers += 1
            if self._trailers > MAX_HEADERS:
                raise too_many_headers()
            return
        name = name.lower()
        self.headers.append((name, value))
        if len(self.headers) > MAX_HEADERS:
            raise too_many_headers()
        if name not in NOTED:
            return
        if name == b"host":
            self._hosts.append(value)
        elif name == b"transfer-encoding":
            self._transfer_codings.append(value)
        elif name == b"content-length":
            self._body_left_bytes = int(value)
        elif value.lower() == b"100-continue":
            self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        """Begin a request, or put it in line behind those that its client has sent before."""
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise InvalidRequestError("CONNECT asks for a tunnel, and this is no proxy")
            return
        version = self.parser.get_http_version()
        check_fields(version, self._hosts, self._transfer_codings)
        if len(self.url) > MAX_TARGET_BYTES:
            raise target_too_long()
        self._fill_scope(version)
        self._is_at_head = False
        self._is_chunked = bool(self._transfer_codings)
        cycle = self.cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if self._is_answered() and not self.pipeline:
            self._current = cycle
            self._start_asgi_task(cycle, self.app)
        else:
            self.pipeline.appendleft((cycle, self.app))

    def _fill_scope(self, version: str) -> None:
        scope = self.scope
        scope["method"] = self.parser.get_method().decode("ascii")
        if version != "1.1":
            scope["http_version"] = version
        try:
            target = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError:
            raise malformed("its target is no path") from None
        raw_path = target.path or (self.url if self.url == b"*" else b"/")
        path = raw_path.decode("ascii")
        scope["path"] = self.root_path + (urllib.parse.unquote(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + raw_path
        scope["query_string"] = target.query or b""

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._body_bytes += len(body)
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Take note that a request is there as a whole."""
        if self.parser.should_upgrade():
            return
        self._is_at_head = True
        self._since_s = self.loop.time() if self._is_answered() else None
        cycle = self.cycle
        if not cycle.keep_alive:
            self._ends = True
        cast("Scope", cycle.scope)[BODY_COMPLETE] = True
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    # Answering

    def on_response_complete(self) -> None:
        """Begin the next request, or wait for one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._since_s = self.loop.time()
        if self.pipeline:
            self.turns.add(self.loop, self._begin_next)
        elif self._last_words is not None:
            self._say_last_words(self._last_words)
        elif self._had_eof and not self._waits_for_room:
            self.transport.close()
        if self._waits_for_room:
            self.turns.add(self.loop, self._parse_what_waits)
        else:
            self.flow.resume_reading()

    def _begin_next(self) -> None:
        if not self.pipeline or self.transport.is_closing():
            return
        cycle, app = self.pipeline.pop()
        self._current = cycle
        self._since_s = self.loop.time()
        self._start_asgi_task(cycle, app)

    def _parse_what_waits(self) -> None:
        if not self._waits_for_room or self._ends or self.transport.is_closing():
            return
        self._receive(b"")
        if self._had_eof and not self._waits_for_room:
            self._end_input()

    def wait_for(self, answer: "asyncio.Future[Any]") -> None:
        """Cancel this when the client goes; uvicorn waits for it before it stops, and cancels it at last."""
        self._answer = answer
        self.tasks.add(answer)  # type: ignore[arg-type]  # all that it asks of a task a future has, too
        answer.add_done_callback(self.tasks.discard)

    def _reply(self, cycle: RequestResponseCycle, answer: Answer, request_id: bytes) -> None:
        """Send the whole answer to the request of a cycle in one piece."""
        self._answer = None
        if cycle.disconnected:
            return
        headers = (*SECURITY_HEADERS, (REQUEST_ID, request_id))
        self.transport.write(self._encode(answer, headers, closes=not cycle.keep_alive))
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _is_answered(self) -> bool:
        return self._current is None or self._current.response_complete

    def _is_idle(self) -> bool:
        """Return True if no request waits for an answer."""
        return self._is_answered() and not self.pipeline and not self._waits_for_room and self._last_words is None

    def _is_between_requests(self) -> bool:
        return self._is_at_head and not self._is_head_partial and self._is_idle()

    # Malformed requests, and those that never end

    def _fail(self, error: RequestError) -> None:
        """Answer a request that can't be read, behind those before it, and read no more."""
        clear_traceback(error)
        self._ends = True
        self._unparsed, self._waits_for_room = b"", False
        scope = self._scope_of_malformed() if self._is_at_head else cast("Scope", self.cycle.scope)
        if self._is_at_head:
            self._notify_unanswered(scope, error)
        elif not self._give_up_last(error):
            self.transport.close()
            return
        answer = self._problem(error, scope)
        if self._is_answered() and not self.pipeline:
            self._say_last_words(answer)
        else:
            self._last_words = answer

    def _give_up_last(self, error: RequestError) -> bool:
        """Let go of the request whose body never ends, or ends nowhere; False where it is too late to say so."""
        broken = self.cycle
        if broken.response_started:
            broken.disconnected = not broken.response_complete
            broken.message_event.set()
            return False
        broken.disconnected, broken.waiting_for_100_continue = True, False
        broken.message_event.set()
        if broken is self._current:
            self._current = None
        else:
            self.pipeline.popleft()
            self._notify_unanswered(cast("Scope", broken.scope), error)
        return True

    def _problem(self, error: RequestError, scope: Scope) -> bytes:
        path = self.url.removeprefix(self.root_path_bytes).decode("latin-1")
        headers = (*SECURITY_HEADERS, (REQUEST_ID, self.application.request_ids.of(scope)))
        return self._encode(problem_answer(problem_of(error), path), headers, closes=True)

    def _encode(self, answer: Answer, headers: Sequence[tuple[bytes, bytes]], *, closes: bool) -> bytes:
        """Return a whole answer as bytes; `headers` go with it."""
        lines = [*self.server_state.default_headers, *answer.raw_headers(), *headers]
        if closes and CLOSE_HEADER not in lines:
            lines.append(CLOSE_HEADER)
        encoded = (b"%s: %s\r\n" % line for line in lines)
        return b"".join((STATUS_LINE[answer.status], *encoded, b"\r\n", answer.body))

    def _say_last_words(self, answer: bytes) -> None:
        """Send the last answer; what still arrives is thrown away for a moment, or the client could not read it.

        Closed at once, the connection would be reset under what the client is sending.
        """
        self._last_words = None
        self.transport.write(answer)
        if self._had_eof or not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self._is_lingering = True
        self.flow.is_held = False
        self.flow.resume_reading()
        self._since_s = self.loop.time()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(LINGER_S, self._end_linger)

    def _end_linger(self) -> None:
        self._is_lingering = False
        self.transport.close()
        self._look()

    def _discard(self, size: int) -> None:
        self._lingering_bytes += size
        if self._lingering_bytes > LINGER_BYTES and self._is_lingering:
            self.transport.close()

    def _notify_unanswered(self, scope: Scope, error: RequestError | None = None) -> None:
        """Have a request noted that the application never saw; without an error its client has gone."""
        self.application.forwarding.resolve(scope)
        method, path = scope["method"], route_path(scope)
        trace = Trace(method, path, self.application.request_ids.of(scope).decode())
        trace.client = client_of(scope)
        trace.is_inference = method == "POST" and path.startswith(PATHS)
        if error is None:
            trace.status, trace.error = HTTPStatus.BAD_REQUEST, CLIENT_GONE
        else:
            trace.status = error.status
            trace.fail(error.kind, error.problem)
        notify_finished(trace, self.application.observers)

    def _scope_of_malformed(self) -> Scope:
        """Return what there is to note of a request whose head can't be read."""
        path = self.url.partition(b"?")[0][:MAX_NOTED_PATH_BYTES].decode("latin-1")
        return {"method": "", "path": path, "root_path": "", "client": self.client, "headers": ()}

    # Clients that let us wait

    def _look(self) -> None:
        """Close the connection if its client has let us wait for too long; otherwise look again when it may have."""
        now_s = self.loop.time()
        if self.transport.is_closing():  # and not closed: there is something that the client doesn't read
            self._timer = self.loop.call_later(UNREAD_ANSWER_S, self.transport.abort)
            return
        longest_s = self._longest_wait_s()
        if self._unread_since_s is not None:
            left_s = self._unread_since_s + UNREAD_ANSWER_S - now_s
            if left_s <= 0:
                self.transport.abort()
                return
        elif self._since_s is None or longest_s is None:
            left_s = self._look_after_s
        else:
            left_s = self._since_s + longest_s - now_s
            if left_s <= 0:
                self._give_up_waiting(longest_s)
        if self._is_lingering:  # which has a time of its own
            return
        self._timer = self.loop.call_later(max(MIN_LOOK_S, min(left_s, self._look_after_s)), self._look)

    @property
    def _look_after_s(self) -> float:
        return min(self.limits.keep_alive_timeout_s, self.limits.header_timeout_s)

    def _longest_wait_s(self) -> float | None:
        """Return how long the client may let us wait for what it owes us; None where it is we who owe an answer."""
        limits = self.limits
        if self._is_idle():
            is_quiet = self._is_between_requests() and not self._skip_bytes
            return limits.keep_alive_timeout_s if is_quiet else limits.header_timeout_s
        if not self._is_at_head and self.cycle is self._current:
            # The application has the first of these limits; together they are for what it reads without any.
            return limits.upload_timeout_s + limits.request_timeout_s
        return None

    def _give_up_waiting(self, waited_s: float) -> None:
        if self._is_head_partial:
            self._fail(UploadTimeoutError(f"the head of the request was not there after {waited_s:g} s"))
        elif not self._is_at_head and not self._is_answered():
            self._fail(upload_timeout(waited_s))
        else:
            self.transport.close()

    # Rejecting requests, and beginning them

    def _reject(self, data: bytes) -> bool:
        """Send a refusal; False where the request is not to be refused, or not here."""
        end = data.find(HEAD_END)
        head = read_head(data[:end], self.root_path_bytes) if 0 < end <= MAX_EARLY_HEAD_BYTES else None
        if head is None or self.flow.write_paused:
            return False
        missing = head.body_bytes - (len(data) - end - len(HEAD_END))
        if missing < 0 or missing > MAX_SKIPPED_BYTES or (missing and head.closes):
            return False
        rejection = self.backlog.rejection(head.target)
        if rejection is None:
            return False
        self._skip_bytes = missing
        self.backlog.rejected(rejection)
        self.transport.write(self._response(rejection, head))
        if head.closes:
            self.transport.close()
            return True
        self._since_s = self.loop.time()
        return True

    def _response(self, rejection: Rejection, head: Head) -> bytes:
        known = rejection.responses.get(head.form)
        if known is None:
            known = rejection.responses[head.form] = self._make_response(
                rejection, plain=head.plain, closes=head.closes
            )
        return known

    def _make_response(self, rejection: Rejection, *, plain: bool, closes: bool) -> bytes:
        retry = (b"retry-after", b"%d" % rejection.error.retry_after_s)
        answer = problem_answer(problem_of(rejection.error), "/v2" if plain else "/predict", [retry])
        return self._encode(answer, SECURITY_HEADERS, closes=closes)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        scope = cycle.scope
        raw_path = scope["raw_path"]  # as it was sent, which is how an early rejection knows it
        self.application.forwarding.resolve(cast("Scope", scope))
        if scope["method"] != "POST" or not route_path(cast("Scope", scope)).startswith(PATHS):
            super()._start_asgi_task(cycle, app)
            return
        query = scope["query_string"]
        target = raw_path + b"?" + query if query else raw_path
        ticket = Ticket(self.backlog, target)
        scope[TICKET_KEY] = ticket  # type: ignore[typeddict-unknown-key]
        if self.backlog.rejects and (rejection := self.backlog.rejection(target)) is not None:
            ticket.rejected = rejection.error
            super()._start_asgi_task(cycle, app)
            return
        begin = partial(self.backlog.add, target, partial(self._begin, cycle, app, ticket))
        if self._is_parsing:
            self._queued_start = begin
        else:
            begin()

    def _begin(self, cycle: RequestResponseCycle, app: ASGI3Application, ticket: Ticket, waited_s: float) -> None:
        ticket.waited_s = waited_s
        if cycle.disconnected:
            ticket.rejected = ClientDisconnect()
        elif self._is_whole(cycle):
            handler = self.application.routes.find(cast("Scope", cycle.scope))
            if handler is not None:
                self._answer_whole(cycle, handler, ticket)
                return
        super()._start_asgi_task(cycle, app)

    def _is_whole(self, cycle: RequestResponseCycle) -> bool:
        if cycle.more_body or cycle.waiting_for_100_continue or self.flow.write_paused:
            return False
        return len(cycle.body) <= MAX_WHOLE_BYTES

    def _answer_whole(self, cycle: RequestResponseCycle, handler: Handler, ticket: Ticket) -> None:
        scope, application = cast("Scope", cycle.scope), self.application
        request_id = application.request_ids.of(scope)
        trace = new_trace(scope, request_id)
        trace.is_inference = True
        exchange = WholeExchange(scope, bytes(cycle.body), trace, ticket, application.settings)

        def answered(outcome: Answer | BaseException) -> None:
            if isinstance(outcome, Answer):
                answer = outcome
            else:
                gone = isinstance(outcome, asyncio.CancelledError) and cycle.disconnected
                answer = logged_error_answer(ClientDisconnect() if gone else outcome, exchange)
            trace.status = answer.status
            self._reply(cycle, answer, request_id)
            notify_finished(trace, application.observers)

        EagerCall(handler(exchange), answered, self.wait_for).start()


def _has_unread_bytes(transport: asyncio.Transport) -> bool:
    descriptor = transport.get_extra_info("socket").fileno()
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def protocol_with(
    backlog: Backlog, application: Application, stop: Stop | None = None, *, limits: ConnectionLimits | None = None
) -> type[BacklogProtocol]:
    """Return the protocol of a server whose requests for predictions wait in this backlog.

    Args:
        application: whose hot routes answer small requests without ASGI.
        stop: from its request on, answers say that their connection closes.
        limits: of each connection.

    Raises:
        SettingsError: this uvicorn's protocol has other methods than those that are overridden here.
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
        "turns": _Turns(backlog),
    }
    return type("Protocol", (BacklogProtocol,), attributes)
