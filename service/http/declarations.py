"""Bodies, headers and errors that several native routes declare in the OpenAPI document."""

from typing import Any, Final

from service.http.errors import PROBLEM_TYPE
from service.http.exchange import MAX_TIMEOUT_MS, TIMEOUT_HEADER
from service.http.multipart_form import FIELD, FILES_FIELD
from service.http.request_trace import MAX_ID_BYTES
from service.images.formats.reading import DECLARED_TYPES

Declaration = dict[str, Any]

_BINARY: Final = {"type": "string", "format": "binary"}
_RAW_BODIES: Final = {kind: {"schema": _BINARY} for kind in sorted(DECLARED_TYPES)}


def _form(field: str, schema: Declaration) -> Declaration:
    return {"multipart/form-data": {"schema": {"type": "object", "required": [field], "properties": {field: schema}}}}


IMAGE_BODY: Final[Declaration] = {
    "required": True,
    "content": _form(FIELD, _BINARY | {"description": "the image"}) | _RAW_BODIES,
}
FILES_BODY: Final[Declaration] = {
    "required": True,
    "content": _form(FILES_FIELD, {"type": "array", "items": _BINARY, "description": "the images"}),
}
HEADERS: Final[list[Declaration]] = [
    {
        "name": TIMEOUT_HEADER,
        "in": "header",
        "description": "deadline of this request in milliseconds, if the service's is too long; after it, 504",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS},
    },
    {
        "name": "X-Request-ID",
        "in": "header",
        "description": f"any text of at most {MAX_ID_BYTES} characters; it is repeated in the answer and in the log",
        "schema": {"type": "string", "maxLength": MAX_ID_BYTES},
    },
]


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the declarations of these error statuses for the OpenAPI document."""
    titles = {
        400: "No image, or one that can't be decoded",
        401: "The token is missing or wrong",
        404: "No such model, version or plot",
        408: "The body did not arrive in time",
        413: "Too many bytes or pixels",
        415: "Not a supported image type",
        422: "A parameter is not valid",
        503: "Overloaded, not ready or stopping; see `Retry-After`",
        504: "No answer within the deadline",
    }
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {status: {"description": titles[status], "content": {PROBLEM_TYPE: schema}} for status in statuses}
