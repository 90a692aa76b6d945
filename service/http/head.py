"""The head of an HTTP request: its limits, and checks that the parser does not make.

The parser (llhttp) is strict about nearly everything, but has no limits and does not check Host and versions.
"""

import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import httptools

from service.errors import HeadTooLargeError, InvalidRequestError, TargetTooLongError

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


def normal_head(head: bytes, max_header_bytes: int) -> bytes:
    """Return a complete head without trailing blanks after values (RFC 9110, 5.5).

    The parser keeps them, and takes some for a part of the value.

    Raises:
        RequestError: the head is over a limit, or of another protocol.
    """
    line_bytes = head.find(b"\r\n")
    if line_bytes > MAX_TARGET_BYTES or len(head) > max_header_bytes:
        _check_sizes(head, line_bytes, max_header_bytes)
    if b" \r\n" in head or b"\t\r\n" in head:
        head = _TRAILING_BLANKS.sub(b"", head)
        line_bytes = head.find(b"\r\n")
    if head[max(0, line_bytes - VERSION_BYTES) : line_bytes] not in VERSIONS:
        raise malformed("its first line does not end with HTTP/1.1")
    return head


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
