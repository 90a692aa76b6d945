"""From an HTTP request to the bytes of the one image that it carries: multipart field `file`, or the raw body.

The body is held in memory, never in a temporary file, and is refused as soon as it is known to be too large.
"""

import asyncio
from functools import lru_cache
from typing import Final

from multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from service.api.content_type import WAYS, check_type
from service.api.multipart_form import file_of_form
from service.core.admission import Slot
from service.errors import InvalidRequestError, TooLargeError, UnsupportedTypeError, UploadTimeoutError

FORM: Final = "multipart/form-data"
MAX_CONTENT_TYPE_CHARACTERS: Final = 1000
_parse_content_type = lru_cache(maxsize=256)(parse_options_header)


async def read_image(
    headers: Headers, receive: Receive, slot: Slot, *, max_body_bytes: int, upload_timeout_s: float
) -> bytes:
    """The encoded image in a request.

    Args:
        slot: of the request; the body's bytes are counted in it.

    Raises:
        ClientDisconnect: the client went away in the middle of it.
        InvalidRequestError: there is none, or the form is broken.
        TooLargeError: the body has more than `max_body_bytes`.
        UnavailableError: all requests together would hold too many bytes.
        UnsupportedTypeError: the body or the form's file is declared as something else than an image, or compressed.
        UploadTimeoutError: the body was not there after `upload_timeout_s`.
    """
    encoding = headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise UnsupportedTypeError(
            f"content encoding {encoding[:100]!r} is not read",
            expected="a body that is not compressed: image files already are",
        )
    content_type, options = _parse_content_type(headers.get("content-type", "")[:MAX_CONTENT_TYPE_CHARACTERS])
    if content_type != FORM:
        check_type(content_type)
    check_declared_size(headers.get("content-length", ""), max_body_bytes=max_body_bytes)
    try:
        async with asyncio.timeout(upload_timeout_s):
            body = await _read_body(receive, slot, max_body_bytes)
    except TimeoutError:
        raise upload_timeout(upload_timeout_s) from None
    image = file_of_form(body, options) if content_type == FORM else body
    if not image:
        raise InvalidRequestError("the request carries no image: it has 0 bytes", expected=WAYS)
    return image


async def _read_body(receive: Receive, slot: Slot, max_body_bytes: int) -> bytes:
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


def upload_timeout(upload_timeout_s: float) -> UploadTimeoutError:
    """The error of a body that took longer."""
    return UploadTimeoutError(
        f"the body was not there after {upload_timeout_s:g} s", remedy="send it faster, or a smaller file"
    )


def _too_large(problem: str, max_body_bytes: int) -> TooLargeError:
    return TooLargeError(
        problem, expected=f"at most {max_body_bytes:,} bytes", remedy="send a smaller file: the models see 32x32 pixels"
    )
