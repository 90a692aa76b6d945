"""The encoded images in an HTTP request, from a multipart form or the raw body.

The body stays in memory and never goes to a temporary file. It is rejected as soon as it is known to be too large.
"""

import asyncio
import re
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from multipart import parse_options_header
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from service.errors import (
    InvalidRequestError,
    TooLargeError,
    UnsupportedTypeError,
    UploadTimeoutError,
)
from service.http.content_type import FILES_WAY, check_type
from service.http.multipart_form import FormField, files_of_form
from service.inference.admission import Slot

FORM: Final = "multipart/form-data"
MAX_CONTENT_TYPE_BYTES: Final = 1000
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
PLAIN_FORM: Final = re.compile(rb"multipart/form-data; ?boundary=([0-9A-Za-z'()+_,./:=?-]{1,70})")
"""The usual form of the header. Clients send a new boundary each time, so caching would not help."""
BOUNDARY: Final = re.compile(r"(?i);[ ]*boundary=([^\"; ]+)")
"""A boundary without quotes, which may have characters that need them."""

RawHeaders = Mapping[bytes, bytes]
"""A request's headers as in ASGI: lower-case names; of a repeated header, the last value."""
ContentType = tuple[str, dict[str, str]]
"""The type, and its options, such as `boundary`."""


def raw_headers(scope: Scope) -> RawHeaders:
    """Return a request's headers by name; several lines of content codings become one list (RFC 9110, 5.3)."""
    lines = scope["headers"]
    headers = dict(lines)
    if len(headers) < len(lines) and CONTENT_ENCODING in headers:
        headers[CONTENT_ENCODING] = b", ".join(value for name, value in lines if name == CONTENT_ENCODING)
    return headers


def image_type(headers: RawHeaders) -> ContentType:
    """Return the content type of a request with an image; call it before the body is read.

    Raises:
        UnsupportedTypeError: the declared type is not supported.
    """
    plain = PLAIN_FORM.fullmatch(headers.get(b"content-type", b""))
    if plain is not None and CONTENT_ENCODING not in headers:
        return FORM, {"boundary": plain[1].decode()}
    kind = _content_type(headers)
    if kind[0] != FORM:
        check_type(kind[0])
    return kind


def form_type(headers: RawHeaders) -> ContentType:
    """Return the content type of a request with files in a form.

    Raises:
        UnsupportedTypeError: it is not a form.
    """
    kind = _content_type(headers)
    if kind[0] != FORM:
        raise not_a_form(kind[0])
    return kind


def files_in(body: bytes, kind: ContentType, *, max_files: int) -> list[FormField]:
    """Return the form's fields `files`, in order.

    Raises:
        RequestError: there are none or too many, or the form is malformed.
    """
    return files_of_form(body, kind[1], most_files=max_files)


def content_codings(headers: RawHeaders) -> list[str]:
    """Return the content codings of a body, in the order in which they were applied.

    Raises:
        UnsupportedTypeError: one of them is not supported.
    """
    if CONTENT_ENCODING not in headers:
        return []
    codings = _content_codings(headers)
    if len(codings) > MAX_CODINGS or any(coding not in COMPRESSIONS for coding in codings):
        raise _unread_coding(codings, f"{', '.join(COMPRESSIONS)} or none", ", ".join(COMPRESSIONS))
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


def _content_codings(headers: RawHeaders) -> list[str]:
    """Return the codings of the body in the order in which they were applied, without `identity`."""
    value = headers.get(CONTENT_ENCODING, b"").decode("latin-1").lower()
    codings = [coding.strip(" \t") for coding in value.split(",")]
    return [coding for coding in codings if coding not in {"", IDENTITY}]


def _unread_coding(codings: list[str], expected: str, accepted: str) -> UnsupportedTypeError:
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


def _content_type(headers: RawHeaders) -> tuple[str, dict[str, str]]:
    codings = _content_codings(headers) if CONTENT_ENCODING in headers else []
    if codings:
        raise _unread_coding(codings, "an uncompressed body: image files are already compressed", IDENTITY)
    return _parse_content_type(headers.get(b"content-type", b"")[:MAX_CONTENT_TYPE_BYTES])


@lru_cache(maxsize=256)
def _parse_content_type(raw: bytes) -> tuple[str, dict[str, str]]:
    value = raw.decode("latin-1").replace("\t", " ")
    kind: tuple[str, dict[str, str]] = parse_options_header(value)
    bare_boundary = BOUNDARY.search(value)
    if bare_boundary is not None:
        kind[1]["boundary"] = bare_boundary[1]
    return kind


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


def not_a_form(content_type: str) -> UnsupportedTypeError:
    """Return the error for a body that is not a form, on a route that takes several files."""
    return UnsupportedTypeError(f"content of type {content_type[:100]!r} is not supported", expected=FILES_WAY)


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
