"""From bytes to requests: heads, bodies and limits of a connection, on top of uvicorn's protocol.

The parser (llhttp) gets exactly one complete head and what belongs to it. So heads have limits, upgrade offers can be
ignored, and only a few pipelined requests are parsed ahead. It is strict about nearly everything, but has no limits and
does not check Host and versions; this module does.
"""

import asyncio
import re
import urllib.parse
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final, cast

import httptools
from starlette.types import Scope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.errors import HeadTooLargeError, InvalidRequestError, RequestError, TargetTooLongError, clear_traceback
from service.http.middleware import BODY_COMPLETE
from service.process.lifecycle import Stop

HEAD_END: Final = b"\r\n\r\n"
MAX_HEADERS: Final = 100
MAX_TARGET_BYTES: Final = 8 * 2**10
MAX_METHOD_BYTES: Final = 24
VERSIONS: Final = (b" HTTP/1.1", b" HTTP/1.0")
VERSION_BYTES: Final = 9

_TRAILING_BLANKS: Final = re.compile(rb"(?<=[^\r\n \t])[ \t]+(?=\r\n)")
_UPGRADE: Final = re.compile(rb"(?i)\r\nupgrade:[^\r\n]*(?=\r\n)")
_HOST: Final = re.compile(rb"(?:\[[0-9A-Za-z:.%_~-]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]{0,5})?")
"""RFC 3986's `host [":" port]`, which may be empty."""

NOTED: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
MAX_PIPELINED: Final = 8
"""Number of requests parsed ahead; each takes kilobytes of memory, but as few as 18 bytes on the wire."""
FRAMING_BYTES_PER_BODY_BYTE: Final = 16
"""Framing of a chunked body allowed in addition to `max_header_bytes`: one-byte chunks are unusual, but valid."""
PARTIAL_HEAD_ENDS: Final = tuple(HEAD_END[:size] for size in (3, 2, 1))
ASGI_SPEC: Final = "2.3"


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of a connection. `upload_timeout_s` and `request_timeout_s` are the application's own limits."""

    max_header_bytes: int = 64 * 2**10
    header_timeout_s: float = 10.0
    keep_alive_timeout_s: float = 5.0
    upload_timeout_s: float = 15.0
    request_timeout_s: float = 10.0


def check_partial_head(head: bytes, max_header_bytes: int) -> None:
    """Check that a partial head can still become a valid one. The head must not start with an empty line.

    Raises:
        RequestError: it is malformed, or over a limit.
    """
    line_bytes = head.find(b"\r\n")
    if line_bytes < 0:
        line_bytes = len(head)
        if b" " not in head[:MAX_METHOD_BYTES] and line_bytes >= MAX_METHOD_BYTES:
            raise malformed("it does not start with a method")
    _check_sizes(head, line_bytes, max_header_bytes)
    if head.count(b"\r\n") > MAX_HEADERS + 1:
        raise too_many_headers()
    try:
        # A separate parser: the one of the connection gets only complete heads.
        httptools.HttpRequestParser(object()).feed_data(head)
    except httptools.HttpParserError as error:
        raise malformed(str(error)) from None


def target_of(head: bytes) -> bytes:
    """Return the target in the first bytes of a head, which may be malformed; empty if there is none."""
    line = head[: MAX_METHOD_BYTES + MAX_TARGET_BYTES].partition(b"\r\n")[0]
    return line.split(b" ", 2)[1] if b" " in line else b""


@lru_cache(maxsize=256)
def parse_target(target: bytes) -> tuple[str, bytes, bytes]:
    """Return the path of a request's target, decoded and raw, and its query.

    Raises:
        InvalidRequestError: it is not a path.
    """
    try:
        parsed = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        raise malformed("its target is not a path") from None
    raw_path: bytes = parsed.path or (target if target == b"*" else b"/")
    path = raw_path.decode("ascii")
    return (urllib.parse.unquote(path) if "%" in path else path), raw_path, parsed.query or b""


def without_offer(head: bytes) -> bytes:
    """Return a complete head without offers to upgrade the protocol."""
    return _UPGRADE.sub(b"", head)


def check_fields(version: str, hosts: Sequence[bytes], transfer_codings: Sequence[bytes]) -> None:
    """Check that a request has the fields that framing and routing need.

    Args:
        version: `1.1` or `1.0`.
        hosts: the values of the fields Host.
        transfer_codings: the values of the fields Transfer-Encoding.

    Raises:
        InvalidRequestError: RFC 9112 requires status 400.
    """
    if len(hosts) != 1 and (hosts or version != "1.0"):
        raise InvalidRequestError(
            f"the request has {len(hosts)} Host headers", expected="one, such as 'Host: localhost:8000'"
        )
    if hosts and not _is_host(hosts[0]):
        raise InvalidRequestError(
            f"the Host header is {hosts[0][:100].decode('latin-1')!r}", expected="a host, or HOST:PORT"
        )
    if transfer_codings and (version == "1.0" or [value.lower() for value in transfer_codings] != [b"chunked"]):
        raise InvalidRequestError(
            f"the request has the transfer coding {b', '.join(transfer_codings)[:100].decode('latin-1')!r}",
            expected="'chunked' with HTTP/1.1, or a Content-Length",
        )


def malformed(reason: str) -> InvalidRequestError:
    """Return the error for bytes that are not an HTTP request."""
    return InvalidRequestError(f"the request is malformed: {reason}", expected="a request in HTTP/1.1")


def head_too_large(max_header_bytes: int) -> HeadTooLargeError:
    """Return the error for a head with too many bytes."""
    return HeadTooLargeError(
        f"the head of the request has more than {max_header_bytes:,} bytes",
        expected=f"at most {max_header_bytes:,} bytes",
        remedy="send fewer or shorter headers, such as cookies",
    )


def framing_too_large(max_header_bytes: int) -> HeadTooLargeError:
    """Return the error for too many bytes of empty lines, chunk extensions or trailers."""
    return HeadTooLargeError(
        f"empty lines, chunk extensions and trailers of the request have more than {max_header_bytes:,} bytes",
        expected="no empty lines before a request, and a chunked body with larger chunks and fewer trailers",
    )


def too_many_headers() -> HeadTooLargeError:
    """Return the error for a head with too many fields."""
    return HeadTooLargeError(
        f"the request has more than {MAX_HEADERS} headers", expected=f"at most {MAX_HEADERS}", remedy="send fewer"
    )


def target_too_long() -> TargetTooLongError:
    """Return the error for a target with too many bytes."""
    return TargetTooLongError(
        f"the target of the request has more than {MAX_TARGET_BYTES:,} bytes",
        expected=f"at most {MAX_TARGET_BYTES:,} bytes",
        remedy="send the image as the body",
    )


def _check_sizes(head: bytes, line_bytes: int, max_header_bytes: int) -> None:
    if line_bytes > MAX_TARGET_BYTES and line_bytes - head.find(b" ") - 1 > MAX_TARGET_BYTES + VERSION_BYTES:
        raise target_too_long()
    if len(head) > max_header_bytes:
        raise head_too_large(max_header_bytes)


@lru_cache(maxsize=256)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


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
        """Give the parser a complete head, without trailing blanks after values (RFC 9110, 5.5).

        The parser keeps them, and takes some for a part of the value.
        """
        self._is_head_partial = self._is_chunked = False
        self._since_s = None
        self._trailers = self._body_left_bytes = self._framing_bytes = 0
        line_bytes = head.find(b"\r\n")
        try:
            if line_bytes > MAX_TARGET_BYTES or len(head) > self.limits.max_header_bytes:
                _check_sizes(head, line_bytes, self.limits.max_header_bytes)
            if b" \r\n" in head or b"\t\r\n" in head:
                head = _TRAILING_BLANKS.sub(b"", head)
                line_bytes = head.find(b"\r\n")
            if head[max(0, line_bytes - VERSION_BYTES) : line_bytes] not in VERSIONS:
                raise malformed("its first line does not end with HTTP/1.1")
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
        self._count_framing(end - start - FRAMING_BYTES_PER_BODY_BYTE * (self._body_bytes - body_bytes))
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
