"""From bytes to requests: heads, bodies and limits of a connection, on top of uvicorn's protocol.

The parser gets exactly one complete head and what belongs to it. So heads have limits, upgrade offers can be ignored,
and only a few pipelined requests are parsed ahead.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Final, cast

import httptools
from starlette.types import Scope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.errors import InvalidRequestError, RequestError, clear_traceback
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
    parse_target,
    target_of,
    target_too_long,
    too_many_headers,
    without_offer,
)
from service.http.middleware import BODY_COMPLETE
from service.process.stopping import Stop

NOTED: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
MAX_PIPELINED: Final = 8
"""Number of requests parsed ahead; each takes kilobytes of memory, but as few as 18 bytes on the wire."""
FRAMING_BYTES_A_BODY_BYTE: Final = 16
"""Framing of a chunked body allowed in addition to `max_header_bytes`: one-byte chunks are unusual, but valid."""
PARTIAL_HEAD_ENDS: Final = tuple(HEAD_END[:size] for size in (3, 2, 1))
ASGI_SPEC: Final = "2.3"


class Flow(FlowControl):
    """Stops reading while parsed data has to wait, or when nothing may be read any more."""

    is_held = False

    def resume_reading(self) -> None:
        """Resume reading, unless it is held."""
        if not self.is_held:
            super().resume_reading()


class ReadingProtocol(HttpToolsProtocol, ABC):
    """The part of a connection that reads. Subclasses start requests and end the connection."""

    limits: ClassVar[ConnectionLimits]
    stop: ClassVar[Stop]

    flow: Flow
    url = b""
    _current: RequestResponseCycle | None = None
    """The request that is being answered; uvicorn's `cycle` is the last one that was parsed."""
    _queued_start: Callable[[], None] | None = None
    """Starts the parsed request, once all received data is parsed."""
    _is_parsing = False
    _unparsed: bytes = b""
    """Received data that the parser has not seen: a partial head, or complete requests that wait for those before."""
    _waits_for_room = False
    """True if `_unparsed` holds complete requests."""
    _is_at_head = True
    """True while the parser is between two requests."""
    _is_head_partial = False
    """True if a part of the next head has arrived, even if only empty lines."""
    _is_chunked = False
    _body_left_bytes = 0
    _body_bytes = 0
    _framing_bytes = 0
    """Number of bytes in empty lines before a head, or in the chunk framing of a body."""
    _trailers = 0
    _since_s: float | None = None
    """Start of the time-out for the client: for a request, or for the rest of its head or body."""
    _ends = False
    """True if nothing more is parsed on this connection."""
    _had_eof = False

    @abstractmethod
    def _start(self, cycle: RequestResponseCycle) -> None:
        """Start to answer a request whose head was parsed."""

    @abstractmethod
    def _fail(self, error: RequestError) -> None:
        """Answer a request that can't be parsed, after those before it, and stop reading."""

    @abstractmethod
    def _announce_close(self) -> None:
        """Let the answer to the last received request announce the close, not an earlier one."""

    def _is_answered(self) -> bool:
        return self._current is None or self._current.response_complete

    # From received data to the parser

    def _receive(self, data: bytes) -> None:
        """Parse what can be parsed now, and start the resulting requests."""
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
            start, self._queued_start = self._queued_start, None
            start()

    def _parse(self, data: bytes) -> None:
        """Give the parser as much as possible; leave the rest in `_unparsed`."""
        start, size = 0, len(data)
        self._waits_for_room = False
        while start < size and not self._ends:
            if not self._is_at_head and not self._is_chunked:
                end = min(size, start + self._body_left_bytes)
                self._body_left_bytes -= end - start
                self.parser.feed_data(memoryview(data)[start:end])
                start = end
            elif not self._is_at_head:
                start = self._parse_chunks(data, start)
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
        """Start the time-out for a head, at its first byte."""
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
        # RFC 9110, 7.8: a server may ignore the offer. The parser can't ignore an offer that it sees; and if the client
        # asks to close the connection as well, the parser takes nothing more.
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(without_offer(head))

    def _parse_chunks(self, data: bytes, start: int) -> int:
        """Give the parser at most the rest of this request: only a chunked body or its content contains an empty line.

        So the next head is never passed along with it.
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
        """Note the start of a request."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self._hosts: list[bytes] = []
        self._transfer_codings: list[bytes] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header. A trailer after the body must not count as a header."""
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
        """Start a request, or queue it behind its client's earlier ones."""
        parser = self.parser
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT":
                raise InvalidRequestError("CONNECT requests a tunnel, and this server is not a proxy")
            return
        version = parser.get_http_version()
        check_fields(version, self._hosts, self._transfer_codings)
        if len(self.url) > MAX_TARGET_BYTES:
            raise target_too_long()
        path, raw_path, query = parse_target(self.url)
        scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": ASGI_SPEC},
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "scheme": self.scheme,
            "path": self.root_path + path,
            "raw_path": self.root_path.encode("ascii") + raw_path,
            "query_string": query,
            "root_path": self.root_path,
            "headers": self.headers,
            "server": self.server,
            "client": self.client,
            "state": self.app_state.copy(),
        }
        self._is_at_head = False
        self._is_chunked = bool(self._transfer_codings)
        cycle = self.cycle = RequestResponseCycle(
            scope=scope,  # type: ignore[arg-type]  # a TypedDict, whose keys these are
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if self.pipeline or (self._current is not None and not self._current.response_complete):
            self.pipeline.appendleft((cycle, self.app))
        else:
            self._current = cycle
            self._start(cycle)

    def on_body(self, body: bytes) -> None:
        """Note a part of a body."""
        self._body_bytes += len(body)
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Note that a request is complete."""
        if self.parser.should_upgrade():
            return
        self._is_at_head = True
        cycle, current = self.cycle, self._current
        self._since_s = self.loop.time() if current is None or current.response_complete else None
        if not cycle.keep_alive:
            self._ends = True
        cast("Scope", cycle.scope)[BODY_COMPLETE] = True
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()
