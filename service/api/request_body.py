"""From an HTTP request to the bytes of the image, or of the files, that it carries: a multipart form or the raw body.

The body is held in memory, never in a temporary file, and is refused as soon as it is known to be too large.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Final

from multipart import parse_options_header
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from service.api.content_type import FILES_WAY, WAYS, check_type
from service.api.multipart_form import FormField, file_of_form, files_of_form
from service.core.admission import Slot
from service.errors import InvalidRequestError, TooLargeError, UnsupportedTypeError, UploadTimeoutError
from service.settings import Settings

FORM: Final = "multipart/form-data"
MAX_CONTENT_TYPE_BYTES: Final = 1000
COMPRESSIONS: Final = ("gzip", "deflate")
COMPRESSED_IN_PLACE_BYTES: Final = 4 * 2**10
"""A larger body is decompressed in a thread: it may become a thousand times as large, and zlib leaves Python's lock."""
ZLIB_OR_GZIP: Final = zlib.MAX_WBITS | 32
"""What zlib takes to tell the two apart by themselves."""

RawHeaders = Mapping[bytes, bytes]
"""A request's headers as ASGI has them: names in lower case, and of one that is given twice the last."""


def image_reader(settings: Settings) -> Callable[[RawHeaders, Receive, Slot], Awaitable[bytes]]:
    """Reads the encoded image in a request, which is multipart field `file` or the raw body; see `_read`."""

    async def read(headers: RawHeaders, receive: Receive, slot: Slot) -> bytes:
        content_type, options = _image_type(headers)
        return _image_in(await _read(headers, receive, slot, settings), content_type, options)

    return read


def image_of(headers: RawHeaders, body: bytes) -> bytes:
    """The encoded image in a body that was received.

    Raises:
        RequestError: there is none, or it is declared as something that is not read.
    """
    return _image_in(body, *_image_type(headers))


def _image_type(headers: RawHeaders) -> tuple[str, dict[str, str]]:
    content_type, options = _content_type(headers)
    if content_type != FORM:
        check_type(content_type)
    return content_type, options


def _image_in(body: bytes, content_type: str, options: Mapping[str, str]) -> bytes:
    image = file_of_form(body, options) if content_type == FORM else body
    if not image:
        raise InvalidRequestError("the request carries no image: it has 0 bytes", expected=WAYS)
    return image


def files_reader(settings: Settings) -> Callable[[RawHeaders, Receive, Slot], Awaitable[list[FormField]]]:
    """Reads the files in a request, which are the multipart fields `files`; see `_read`."""

    async def read(headers: RawHeaders, receive: Receive, slot: Slot) -> list[FormField]:
        content_type, options = _content_type(headers)
        if content_type != FORM:
            raise not_a_form(content_type)
        body = await _read(headers, receive, slot, settings)
        return files_of_form(body, options, most_files=settings.max_request_rows)

    return read


def body_reader(settings: Settings) -> Callable[[RawHeaders, Receive, Slot], Awaitable[bytes]]:
    """Reads the whole body, compressed by gzip or deflate (RFC 9110, 8.4.1) or not; see `_read`."""

    async def read(headers: RawHeaders, receive: Receive, slot: Slot) -> bytes:
        encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").lower()
        if encoding not in (*COMPRESSIONS, "identity"):
            raise UnsupportedTypeError(
                f"content encoding {encoding[:100]!r} is not read", expected=f"{', '.join(COMPRESSIONS)} or none"
            )
        body = await _read(headers, receive, slot, settings)
        if encoding in COMPRESSIONS:
            body = await _decompress_body(body, settings.max_body_bytes)
            slot.hold_bytes(len(body))
        return body

    return read


async def _decompress_body(body: bytes, max_body_bytes: int) -> bytes:
    if len(body) <= COMPRESSED_IN_PLACE_BYTES:
        return _decompress(body, max_body_bytes)
    return await asyncio.to_thread(_decompress, body, max_body_bytes)


def _decompress(body: bytes, max_body_bytes: int) -> bytes:
    stream = zlib.decompressobj(ZLIB_OR_GZIP)
    try:
        content = stream.decompress(body, max_body_bytes + 1)
    except zlib.error as error:
        raise InvalidRequestError(f"the body can't be decompressed: {error}") from None
    if len(content) > max_body_bytes:
        raise _too_large(f"the body has more than {max_body_bytes:,} bytes, decompressed", max_body_bytes)
    if not stream.eof:
        raise InvalidRequestError("the compressed body is cut off")
    return content


def _content_type(headers: RawHeaders) -> tuple[str, dict[str, str]]:
    encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").lower()
    if encoding != "identity":
        raise UnsupportedTypeError(
            f"content encoding {encoding[:100]!r} is not read",
            expected="a body that is not compressed: image files already are",
        )
    return _parse_content_type(headers.get(b"content-type", b"")[:MAX_CONTENT_TYPE_BYTES])


@lru_cache(maxsize=256)
def _parse_content_type(raw: bytes) -> tuple[str, dict[str, str]]:
    kind: tuple[str, dict[str, str]] = parse_options_header(raw.decode("latin-1"))
    return kind


async def _read(headers: RawHeaders, receive: Receive, slot: Slot, settings: Settings) -> bytes:
    """The whole body.

    Args:
        slot: of the request; the body's bytes are counted in it.

    Raises:
        ClientDisconnect: the client went away in the middle of it.
        TooLargeError: the body has more than `max_body_bytes`.
        UnavailableError: all requests together would hold too many bytes.
    """
    max_body_bytes = settings.max_body_bytes
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
    """Whether a body may be read that declares this length (which may be empty).

    Raises:
        TooLargeError: it has more than `max_body_bytes`.
    """
    if content_length.isascii() and content_length.isdigit() and int(content_length) > max_body_bytes:
        raise _too_large(f"the body has {int(content_length):,} bytes", max_body_bytes)


def not_a_form(content_type: str) -> UnsupportedTypeError:
    """The error of a body that carries no files, for where several are expected."""
    return UnsupportedTypeError(f"content of type {content_type[:100]!r} is not read", expected=FILES_WAY)


def upload_timeout(upload_timeout_s: float) -> UploadTimeoutError:
    """The error of a body that took longer."""
    return UploadTimeoutError(
        f"the body was not there after {upload_timeout_s:g} s", remedy="send it faster, or a smaller file"
    )


def _too_large(problem: str, max_body_bytes: int) -> TooLargeError:
    return TooLargeError(
        problem, expected=f"at most {max_body_bytes:,} bytes", remedy="send a smaller file: the models see 32x32 pixels"
    )
