"""Lenient JSON parsing: a byte order mark, null for missing values, 1.0 for 1, as many languages write it."""

import codecs
from typing import Any, Final

import orjson

from service.errors import InvalidRequestError

OTHER_ENCODINGS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def parse_json(content: bytes | memoryview, *, expected: str) -> Any:
    """Return the value in a request's JSON.

    Args:
        content: the JSON in UTF-8; a byte order mark is ignored.
        expected: a description of the expected request, for the error.

    Raises:
        InvalidRequestError: it is not JSON.
    """
    if bytes(content[:3]) == codecs.BOM_UTF8:
        content = content[3:]
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        if bytes(content[:2]) in OTHER_ENCODINGS:
            raise InvalidRequestError("the request is UTF-16, not JSON in UTF-8", expected=expected) from None
        raise InvalidRequestError(f"the request is not JSON: {error}", expected=expected) from None


def whole_number(value: object) -> object:
    """Return a float without a fraction as an integer; return all other values unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
