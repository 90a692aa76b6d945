"""From an HTTP request to the bytes of the one image that it carries: multipart field `file`, or the raw body.

The body is held in memory, never in a temporary file, and is refused as soon as it is known to be too large.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from fastapi import Request
from multipart import MultipartError, PushMultipartParser, parse_options_header

from service.errors import InvalidRequestError, TooLargeError, UnsupportedTypeError, UploadTimeoutError
from service.images import READABLE_FORMATS, READABLE_TYPES

FIELD: Final = "file"
MAX_FORM_FIELDS: Final = 64
UNSPECIFIC_TYPES: Final = frozenset({"", "application/octet-stream", "binary/octet-stream", "image/*"})
WAYS: Final = (
    "a multipart form with the field 'file' (curl -F file=@cat.png), or the file as the body with its type "
    "(curl --data-binary @cat.png -H 'Content-Type: image/png')"
)
TYPES: Final = f"an image: {', '.join(READABLE_FORMATS)}"


async def read_image(request: Request, *, max_body_bytes: int, upload_timeout_s: float) -> bytes:
    """The encoded image in a request.

    Raises:
        InvalidRequestError: there is none, or the form is broken.
        TooLargeError: the body has more than `max_body_bytes`.
        UnsupportedTypeError: the body or the form's file is declared as something else than an image, or compressed.
        UploadTimeoutError: the body was not there after `upload_timeout_s`.
    """
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise UnsupportedTypeError(
            f"content encoding {encoding[:100]!r} is not read",
            expected="a body that is not compressed: image files already are",
        )
    content_type, options = parse_options_header(request.headers.get("content-type", ""))
    if content_type != "multipart/form-data":
        check_type(content_type)
    try:
        async with asyncio.timeout(upload_timeout_s):
            body = await _read_body(request, max_body_bytes)
    except TimeoutError:
        raise upload_timeout(upload_timeout_s) from None
    image = _file_of_form(body, options) if content_type == "multipart/form-data" else body
    if not image:
        raise InvalidRequestError("the request carries no image: it has 0 bytes", expected=WAYS)
    return image


async def _read_body(request: Request, max_body_bytes: int) -> bytes:
    check_declared_size(request.headers.get("content-length", ""), max_body_bytes=max_body_bytes)
    chunks: list[bytes] = []
    received_bytes = 0
    async for chunk in request.stream():
        received_bytes += len(chunk)
        if received_bytes > max_body_bytes:
            raise _too_large(f"the body has more than {max_body_bytes:,} bytes", max_body_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def _file_of_form(body: bytes, options: Mapping[str, str]) -> bytes:
    fields: list[str] = []
    image = bytearray()
    try:
        with PushMultipartParser(options.get("boundary", ""), max_segment_count=MAX_FORM_FIELDS, strict=True) as parser:
            in_image = False
            for event in parser.parse(body):
                if isinstance(event, bytes | bytearray):
                    if in_image:
                        image += event
                elif event is not None:
                    in_image = event.name == FIELD
                    fields.append(event.name)
                    if in_image:
                        check_type(event.content_type or "")
    except UnicodeDecodeError:
        raise InvalidRequestError("a header within the multipart form is not UTF-8", expected=WAYS) from None
    except MultipartError as error:
        raise InvalidRequestError(
            f"the multipart form is broken: {error}", expected=f"at most {MAX_FORM_FIELDS} fields; {WAYS}"
        ) from None
    if fields.count(FIELD) > 1:
        raise InvalidRequestError(f"the form has {fields.count(FIELD)} fields '{FIELD}'", expected=f"one: {WAYS}")
    if FIELD not in fields:
        found = f"the form has {', '.join(repr(name) for name in fields)}" if fields else "the form is empty"
        raise InvalidRequestError(f"there is no field '{FIELD}': {found}", expected=WAYS)
    return bytes(image)


def check_type(content_type: str) -> None:
    """Whether content of this type may be an image that is read; none declared, or an unspecific one, may.

    Raises:
        UnsupportedTypeError: it may not.
    """
    if content_type not in UNSPECIFIC_TYPES and content_type not in READABLE_TYPES:
        raise UnsupportedTypeError(f"content of type {content_type[:100]!r} is not read", expected=TYPES, remedy=WAYS)


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
