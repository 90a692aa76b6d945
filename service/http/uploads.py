"""The image files in a request, from a multipart form (RFC 7578) or the raw body.

The declared type is checked before the body is read; a form is parsed from a complete body in memory.

Nearly every client sends a form with one field. Its content is cut out of the body in one step, in a tenth of the time
that the library `multipart` takes (`python -m scripts.compare_libraries form`). The library parses all other forms.
"""

import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from cifar10_serving.text import closest
from service.errors import InvalidRequestError, TooLargeError, UnsupportedTypeError
from service.http.body import CONTENT_ENCODING, IDENTITY, RawHeaders, declared_codings, unsupported_coding
from service.images.encoded import READABLE_FORMATS, READABLE_TYPES

UNSPECIFIC_TYPES: Final = frozenset(
    {
        *("", "application/octet-stream", "binary/octet-stream", "application/x-octet-stream", "image/*", "*/*"),
        "application/x-image",  # SageMaker's own name for an image
    }
)
NAMES: Final = MappingProxyType({
    "image/svg+xml": "an SVG drawing",
    "application/pdf": "a PDF document",
    "image/jxl": "JPEG XL",
    "image/jp2": "JPEG 2000",
    "image/jpx": "JPEG 2000",
    "image/vnd.ms-photo": "JPEG XR",
    "image/jxr": "JPEG XR",
    "image/x-icon": "a Windows icon",
    "image/vnd.microsoft.icon": "a Windows icon",
    "image/vnd.adobe.photoshop": "a Photoshop document",
    "image/x-adobe-dng": "a camera's raw photo (DNG)",
    "image/x-canon-cr2": "a camera's raw photo (CR2)",
    "image/x-canon-cr3": "a camera's raw photo (CR3)",
    "image/x-nikon-nef": "a camera's raw photo (NEF)",
    "image/x-sony-arw": "a camera's raw photo (ARW)",
    "video/mp4": "an MPEG-4 video",
    "video/quicktime": "a QuickTime video",
    "text/html": "an HTML page",
    "application/zip": "a zip archive",
    "application/x-www-form-urlencoded": "the default of curl and of HTML forms",
})  # fmt: skip
"""Names of types that are sent instead of an image."""
WAYS: Final = (
    "a multipart form with the field 'file' (curl -F file=@cat.png), or the file as the body with its type "
    "(curl --data-binary @cat.png -H 'Content-Type: image/png')"
)
FILES_WAY: Final = "a multipart form with a field 'files' for each image (curl -F files=@cat.png -F files=@dog.png)"
TYPES: Final = f"an image: {', '.join(READABLE_FORMATS)}"
FORM: Final = "multipart/form-data"
MAX_CONTENT_TYPE_BYTES: Final = 1000
PLAIN_FORM: Final = re.compile(rb"multipart/form-data; ?boundary=([0-9A-Za-z'()+_,./:=?-]{1,70})")
"""The usual form of the header. Clients send a new boundary each time, so caching would not help."""
BOUNDARY: Final = re.compile(r"(?i);[ ]*boundary=([^\"; ]+)")
"""A boundary without quotes, which may have characters that need them."""

FIELD: Final = "file"
FILES_FIELD: Final = "files"
MAX_FORM_FIELDS: Final = 64
MAX_PLAIN_HEADER_BYTES: Final = 512
_DISPOSITION: Final = rb'content-disposition: ?form-data; ?name="file"; ?filename="[^"\\\x00-\x1f\x7f]*"'
_TYPE: Final = rb"content-type: ?([a-z0-9/.+-]+)"
PLAIN_HEADER: Final = re.compile(rb"(?i:%b\r\n%b|%b\r\n%b)" % (_DISPOSITION, _TYPE, _TYPE, _DISPOSITION))
"""The header of the field `file` as nearly every client writes it."""
PLAIN_TYPES: Final = frozenset(kind.encode() for kind in (*READABLE_TYPES, "application/octet-stream"))
FORM_ENDS: Final = (b"--", b"--\r\n")
MAX_SHOWN: Final = 60
MAX_PART_HEADERS: Final = 16
HEADER_CHARSET: Final = "latin-1"
"""An encoding that decodes any bytes, such as a file name in a Windows code page."""
EXTENDED_FILENAME: Final = re.compile(r"(?i);\s*filename\*\s*=\s*\"?(?P<charset>[\w-]*)'[^';]*'(?P<value>[^;\s\"]*)")

ContentType = tuple[str, dict[str, str]]
"""The type, and its options, such as `boundary`."""


def check_type(content_type: str) -> None:
    """Check that content of this type may be a supported image; a missing or generic type may.

    Raises:
        UnsupportedTypeError: it may not.
    """
    content_type = content_type.lower()
    if content_type not in UNSPECIFIC_TYPES and content_type not in READABLE_TYPES:
        name = f" ({NAMES[content_type]})" if content_type in NAMES else ""
        raise UnsupportedTypeError(
            f"content of type {content_type[:100]!r}{name} is not supported", expected=TYPES, remedy=WAYS
        )


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
        raise UnsupportedTypeError(f"content of type {kind[0][:100]!r} is not supported", expected=FILES_WAY)
    return kind


def _content_type(headers: RawHeaders) -> tuple[str, dict[str, str]]:
    if CONTENT_ENCODING in headers and (codings := declared_codings(headers)):
        raise unsupported_coding(codings, "an uncompressed body: image files are already compressed", IDENTITY)
    return _parse_content_type(headers.get(b"content-type", b"")[:MAX_CONTENT_TYPE_BYTES])


@lru_cache(maxsize=256)
def _parse_content_type(raw: bytes) -> tuple[str, dict[str, str]]:
    value = raw.decode("latin-1").replace("\t", " ")
    kind: tuple[str, dict[str, str]] = parse_options_header(value)
    bare_boundary = BOUNDARY.search(value)
    if bare_boundary is not None:
        kind[1]["boundary"] = bare_boundary[1]
    return kind


@dataclass(frozen=True, slots=True)
class FormField:
    """A field of a form, with `filename` and `content_type` as sent; `content_type` may be empty."""

    name: str
    filename: str | None
    content_type: str
    content: bytes


def file_of_form(body: bytes, options: Mapping[str, str]) -> bytes:
    """Return the content of the form's field `file`.

    Args:
        options: parameters of the content type, mainly `boundary`.

    Raises:
        InvalidRequestError: the field is missing or repeated, or the form is malformed.
        UnsupportedTypeError: the field's declared type is not supported.
    """
    boundary = options.get("boundary", "")
    if boundary and boundary.isascii():
        delimiter = b"\r\n--" + boundary.encode()
        size = len(delimiter)  # also of the first one, which has a line break after it instead of before
        header_end = body.find(b"\r\n\r\n", size, size + MAX_PLAIN_HEADER_BYTES)
        end = body.find(delimiter, header_end) if header_end > 0 else -1
        if end > 0 and body[end + size :] in FORM_ENDS and body.startswith(delimiter[2:] + b"\r\n"):
            plain = PLAIN_HEADER.fullmatch(body, size, header_end)
            if plain is not None and (plain[1] or plain[2]).lower() in PLAIN_TYPES:
                return body[header_end + 4 : end]
    return _parse(body, options)


def files_of_form(body: bytes, options: Mapping[str, str], *, max_files: int) -> list[FormField]:
    """Return the form's fields `files`, in order.

    Args:
        options: parameters of the content type, mainly `boundary`.
        max_files: the maximum number of files.

    Raises:
        InvalidRequestError: the field is missing, or the form is malformed.
        TooLargeError: there are too many files.
    """
    files: list[FormField] = []
    others: list[str] = []
    for field in _fields(body, options, max_fields=max_files + MAX_FORM_FIELDS, expected=FILES_WAY):
        if field.name == FILES_FIELD:
            files.append(field)
        else:
            others.append(field.name)
        if len(files) > max_files:
            raise TooLargeError(
                f"more than {max_files:,} files in one request",
                expected=f"at most {max_files:,}",
                remedy="send them in several requests",
            )
    if not files:
        raise _no_field(FILES_FIELD, others, FILES_WAY)
    return files


def _parse(body: bytes, options: Mapping[str, str]) -> bytes:
    fields: list[str] = []
    image = b""
    for field in _fields(body, options, max_fields=MAX_FORM_FIELDS, expected=WAYS):
        fields.append(field.name)
        if field.name == FIELD:
            check_type(field.content_type)
            image = field.content
    if fields.count(FIELD) > 1:
        raise InvalidRequestError(f"the form has {fields.count(FIELD)} fields '{FIELD}'", expected=f"one: {WAYS}")
    if FIELD not in fields:
        raise _no_field(FIELD, fields, WAYS)
    return image


def _fields(body: bytes, options: Mapping[str, str], *, max_fields: int, expected: str) -> Iterator[FormField]:
    """Yield each field as it is parsed."""
    try:
        boundary = options.get("boundary", "").encode(HEADER_CHARSET)
        with PushMultipartParser(
            boundary,
            max_segment_count=max_fields,
            max_header_count=MAX_PART_HEADERS,
            header_charset=HEADER_CHARSET,
        ) as parser:
            head: MultipartSegment | None = None
            content = bytearray()
            for event in parser.parse(_plain_delimiters(body, boundary)):
                if isinstance(event, MultipartSegment):
                    head, content = event, bytearray()
                elif event is not None:
                    content += event
                elif head is not None:
                    yield _field(head, bytes(content))
    except (MultipartError, UnicodeEncodeError) as error:
        raise InvalidRequestError(
            f"the multipart form is malformed: {error}", expected=f"at most {max_fields} fields; {expected}"
        ) from None


def _plain_delimiters(body: bytes, boundary: bytes) -> bytes:
    """Return the form without what RFC 2046, 5.1.1 allows around delimiters and the library rejects.

    That is text before the first delimiter, and blanks after delimiters.
    """
    delimiter = b"--" + boundary
    if body.startswith(delimiter + b"\r\n") and not any(delimiter + blank in body for blank in (b" ", b"\t")):
        return body
    line = re.compile(rb"(?:\A|(?<=\r\n))(" + re.escape(delimiter) + rb"(?:--)?)[ \t]*(?=\r\n|\Z)")
    first = line.search(body)
    return body if first is None else line.sub(rb"\1", body[first.start() :])


def _field(head: MultipartSegment, content: bytes) -> FormField:
    """Return a part as a field.

    Raises:
        InvalidRequestError: the content does not match the declared encoding.
    """
    encoding = head.header("Content-Transfer-Encoding", "").strip().lower()
    if encoding == "base64":
        try:
            content = binascii.a2b_base64(content)
        except binascii.Error as error:
            raise InvalidRequestError(f"a part of the form declares base64 and is not valid base64: {error}") from None
    elif encoding == "quoted-printable":
        content = binascii.a2b_qp(content)
    extended = EXTENDED_FILENAME.search(head.header("Content-Disposition", ""))
    if extended is not None:
        filename: str | None = _decode_extended(extended["charset"], extended["value"])
    else:
        filename = None if head.filename is None else _text(head.filename)
    return FormField(_text(head.name or ""), filename, (head.content_type or "").strip(), content)


def _text(value: str) -> str:
    """Decode a parameter: UTF-8, as nearly all clients send it, otherwise Latin-1."""
    try:
        return value.encode(HEADER_CHARSET).decode()
    except UnicodeDecodeError:
        return value


def _decode_extended(charset: str, value: str) -> str:
    """Decode a parameter in RFC 8187's form: RFC 7578 forbids it and the library rejects it, but clients send it."""
    try:
        return unquote(value, charset or "utf-8", errors="replace")
    except LookupError:  # unknown charset
        return unquote(value, errors="replace")


def _no_field(name: str, found: list[str], expected: str) -> InvalidRequestError:
    has = (
        f"the form has {', '.join(repr(field[:MAX_SHOWN]) for field in found[:MAX_SHOWN])}"
        if found
        else "the form is empty"
    )
    meant = next((field for field in found if closest(field, [name]) is not None), None)
    remedy = f"rename the field {meant!r} to '{name}'" if meant is not None else ""
    return InvalidRequestError(f"there is no field '{name}': {has}", expected=expected, remedy=remedy)
