"""The body of an HTTP request: received within its limits, and decompressed.

The body stays in memory and never goes to a temporary file. It is rejected as soon as it is known to be too large.
"""

import asyncio
import zlib
from collections.abc import Mapping
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from service.errors import (
    InvalidRequestError,
    TooLargeError,
    UnsupportedTypeError,
    UploadTimeoutError,
)
from service.inference.admission import Slot

COMPRESSIONS: Final = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
"""The supported content codings, by their names in RFC 9110, 8.4.1."""
IDENTITY: Final = "identity"
CONTENT_ENCODING: Final = b"content-encoding"
MAX_CODINGS: Final = 4
MAX_GZIP_MEMBERS: Final = 10_000
WINDOW_BYTES: Final = 16 * 2**10
COMPRESSED_IN_PLACE_BYTES: Final = 4 * 2**10
"""A larger body is decompressed in a thread: it may grow a thousandfold, and zlib releases Python's lock."""
ZLIB_OR_GZIP: Final = zlib.MAX_WBITS | 32
"""Window bits with which zlib detects which of the two formats it reads."""
RAW_DEFLATE: Final = -zlib.MAX_WBITS

RawHeaders = Mapping[bytes, bytes]
"""A request's headers as in ASGI: lower-case names; of a repeated header, the last value."""


def content_codings(headers: RawHeaders) -> list[str]:
    """Return the content codings of a body, in the order in which they were applied.

    Raises:
        UnsupportedTypeError: one of them is not supported.
    """
    if CONTENT_ENCODING not in headers:
        return []
    codings = declared_codings(headers)
    if len(codings) > MAX_CODINGS or any(coding not in COMPRESSIONS for coding in codings):
        raise unsupported_coding(codings, f"{', '.join(COMPRESSIONS)} or none", ", ".join(COMPRESSIONS))
    return codings


async def decompress(body: bytes, codings: list[str], slot: Slot, *, max_body_bytes: int) -> bytes:
    """Return the content of a body that may be compressed by gzip or deflate (RFC 9110, 8.4.1).

    Raises:
        RequestError: it is damaged or too large.
    """
    for coding in reversed(codings):
        body = await _decompress_body(body, COMPRESSIONS[coding], max_body_bytes)
        slot.hold_bytes(len(body))
    return body


def declared_codings(headers: RawHeaders) -> list[str]:
    """Return the codings of the body in the order in which they were applied, without `identity`."""
    value = headers.get(CONTENT_ENCODING, b"").decode("latin-1").lower()
    codings = [coding.strip(" \t") for coding in value.split(",")]
    return [coding for coding in codings if coding not in {"", IDENTITY}]


def unsupported_coding(codings: list[str], expected: str, accepted: str) -> UnsupportedTypeError:
    """Return the error for a body with content codings that are not supported."""
    return UnsupportedTypeError(
        f"content encoding {', '.join(codings)[:100]!r} is not supported", expected=expected, accept_encoding=accepted
    )


async def _decompress_body(body: bytes, coding: str, max_body_bytes: int) -> bytes:
    if len(body) <= COMPRESSED_IN_PLACE_BYTES:
        return _decompress(body, coding, max_body_bytes)
    return await asyncio.to_thread(_decompress, body, coding, max_body_bytes)


def _decompress(body: bytes, coding: str, max_body_bytes: int) -> bytes:
    """Return the content of all members of a compressed body; zeros may follow, as after some archives.

    `gzip.decompress` has no limit, and `gzip.GzipFile` takes seconds for a body of empty members.

    Raises:
        InvalidRequestError: the body does not match its coding.
        TooLargeError: the content is too large.
    """
    content = bytearray()
    position, members = 0, 0
    while position < len(body) and (members == 0 or (body[position] and coding == "gzip")):
        members += 1
        if members > MAX_GZIP_MEMBERS:
            raise _too_large(f"the compressed body has more than {MAX_GZIP_MEMBERS:,} members", max_body_bytes)
        is_raw = coding == "deflate" and not _has_zlib_header(body)
        stream = zlib.decompressobj(RAW_DEFLATE if is_raw else ZLIB_OR_GZIP)
        try:
            position = _decompress_member(stream, body, position, content, max_body_bytes)
        except zlib.error as error:
            raise InvalidRequestError(f"the body can't be decompressed: {error}") from None
    if not members:
        raise InvalidRequestError("the compressed body is truncated")
    if body.count(0, position) < len(body) - position:
        raise InvalidRequestError("the compressed body has data after its end")
    return bytes(content)


def _decompress_member(
    stream: "zlib._Decompress", body: bytes, position: int, content: bytearray, max_body_bytes: int
) -> int:
    """Add a member's content and return its end; zlib gets one window at a time, because it copies the rest."""
    while not stream.eof:
        window = stream.unconsumed_tail
        if not window:
            window = body[position : position + WINDOW_BYTES]
            position += len(window)
        if not window:
            raise InvalidRequestError("the compressed body is truncated")
        content += stream.decompress(window, max_body_bytes + 1 - len(content))
        if len(content) > max_body_bytes:
            raise _too_large(f"the body has more than {max_body_bytes:,} bytes, decompressed", max_body_bytes)
    return position - len(stream.unused_data)


def _has_zlib_header(body: bytes) -> bool:
    """Return True if a deflate body has the zlib header of RFC 9110; some clients send raw deflate (RFC 1951)."""
    first = int.from_bytes(body[:2], "big")
    return body[0] & 0x0F == zlib.DEFLATED and first % 31 == 0


async def read_stream(headers: RawHeaders, receive: Receive, slot: Slot, *, max_body_bytes: int) -> bytes:
    """Return the complete body.

    Args:
        slot: the request's admission slot, in which the body's bytes are counted.

    Raises:
        ClientDisconnect: the client disconnected before the end.
        TooLargeError: the body has more than `max_body_bytes`.
        UnavailableError: the bodies of all requests would take too much memory.
    """
    check_declared_size(headers.get(b"content-length", b"").decode("latin-1"), max_body_bytes=max_body_bytes)
    chunks: list[bytes] = []
    received_bytes = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        more = message.get("more_body", False)
        received_bytes += len(chunk)
        if received_bytes > max_body_bytes:
            raise _too_large(f"the body has more than {max_body_bytes:,} bytes", max_body_bytes)
        slot.hold_bytes(len(chunk))
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def check_declared_size(content_length: str, *, max_body_bytes: int) -> None:
    """Check the declared length of a body (which may be empty) against the limit.

    Raises:
        TooLargeError: the length is more than `max_body_bytes`.
    """
    if content_length.isascii() and content_length.isdigit() and int(content_length) > max_body_bytes:
        raise _too_large(f"the body has {int(content_length):,} bytes", max_body_bytes)


def upload_timeout(upload_timeout_s: float) -> UploadTimeoutError:
    """Return the error for a body that did not arrive in time."""
    return UploadTimeoutError(
        f"the body did not arrive within {upload_timeout_s:g} s", remedy="send it faster, or a smaller file"
    )


def _too_large(problem: str, max_body_bytes: int) -> TooLargeError:
    return TooLargeError(
        problem,
        expected=f"at most {max_body_bytes:,} bytes",
        remedy="send a smaller file: the models scale images down",
    )
