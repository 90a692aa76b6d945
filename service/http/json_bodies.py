"""JSON as clients in many languages write it: with a byte order mark, null for what is left out, 1.0 for 1."""

import codecs
from typing import Any, Final

import orjson

from service.errors import InvalidRequestError

OTHER_ENCODINGS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def parse_json(content: bytes | memoryview, *, expected: str) -> Any:
    """Return the value that a request's JSON holds.

    Args:
        content: the JSON, in UTF-8; a byte order mark in front is passed over.
        expected: what should have been sent, for the error.

    Raises:
        InvalidRequestError: it is no JSON.
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
    """Return a number that is written with a fraction of zero as the whole number that it is; all else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
