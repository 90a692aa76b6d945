"""The one file in a multipart form (RFC 7578), from the whole body in memory.

What nearly every client sends, a form of one field, is cut out of the body in one step; anything else is parsed by
the library `multipart`.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from multipart import MultipartError, PushMultipartParser, parse_options_header

from service.api.content_type import WAYS, check_type
from service.errors import InvalidRequestError
from service.images import READABLE_TYPES

FIELD: Final = "file"
MAX_FORM_FIELDS: Final = 64
MAX_KEPT_HEADER_BYTES: Final = 512


def file_of_form(body: bytes, options: Mapping[str, str]) -> bytes:
    """The content of the form's field `file`.

    Args:
        options: of the content type; `boundary` above all.

    Raises:
        InvalidRequestError: there is no such field, there are several, or the form is broken.
        UnsupportedTypeError: it is declared as something that is not read.
    """
    return _only_part(body, options.get("boundary", "")) or _parse(body, options)


def _only_part(body: bytes, boundary: str) -> bytes | None:
    """The content of a form's single part, if it is the field `file`; None leaves it to the parser."""
    if not boundary or not boundary.isascii():
        return None
    delimiter = b"\r\n--" + boundary.encode()
    start = len(delimiter)
    header_end = body.find(b"\r\n\r\n", start, start + MAX_KEPT_HEADER_BYTES)
    if header_end < 0 or body[: start - 2] != delimiter[2:] or body[start - 2 : start] != b"\r\n":
        return None
    end = body.find(delimiter, header_end)
    if end < 0 or body[end + start :] not in {b"--", b"--\r\n"}:
        return None
    if not _is_readable_file(body[start:header_end]):
        return None
    return body[header_end + 4 : end]


@lru_cache(maxsize=256)
def _is_readable_file(header: bytes) -> bool:
    """Whether a part with this header is the field `file`, declared as an image that is read; kept by its bytes."""
    fields: dict[bytes, bytes] = {}
    for line in header.split(b"\r\n"):
        name, _, value = line.partition(b":")
        fields[name.strip().lower()] = value.strip()
    if set(fields) != {b"content-disposition", b"content-type"} or b'"file"' not in fields[b"content-disposition"]:
        return False
    try:
        disposition, options = parse_options_header(fields[b"content-disposition"].decode("ascii"))
    except (UnicodeDecodeError, ValueError):
        return False
    kind = fields[b"content-type"].decode("latin-1")
    return disposition == "form-data" and options.get("name") == FIELD and kind in READABLE_TYPES


def _parse(body: bytes, options: Mapping[str, str]) -> bytes:
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
