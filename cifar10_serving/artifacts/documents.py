"""Parses untrusted JSON documents into our schemas, with one-line errors.

Pydantic's own parser accepts repeated keys (the last one wins), NaN, and numbers that can't be written as JSON again;
the standard library's hooks detect all of these. Editors on Windows write UTF-16, or a byte order mark before UTF-8:
both are accepted.
"""

import json
import math
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

MAX_DEPTH: Final = 64
MAX_KEYS: Final = 10_000
"""Limit for each object: pydantic would collect an error for every unknown key."""
MAX_PROBLEMS_SHOWN: Final = 3
MAX_SHOWN: Final = 100
LARGEST_INTEGER: Final = 2**63 - 1

Schema = TypeVar("Schema", bound=BaseModel)


class DocumentError(ValueError):
    """Raised for a document that does not match its schema; the message is one printable line."""


def parse_document(content: bytes, schema: type[Schema], *, place_parts: int = MAX_DEPTH) -> Schema:
    """Parse a JSON document.

    Args:
        content: UTF-8, or UTF-16 or UTF-32 with a byte order mark.
        place_parts: number of parts of a problem's location that are named, from the outermost.

    Raises:
        DocumentError: it is not JSON, has a repeated key, or does not match `schema`.
    """
    try:
        text = content.decode(json.detect_encoding(content))
    except UnicodeDecodeError as error:
        raise DocumentError(f"byte {error.start} is not {error.encoding.upper()}; save it as UTF-8") from None
    _check_json(text)
    try:
        return schema.model_validate_json(text)
    except ValidationError as error:
        raise DocumentError(_described(error, place_parts)) from None


def printable(text: str, most: int = MAX_SHOWN) -> str:
    """Return untrusted text for a message or a log: one line with at most this many characters."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[: most + 1])
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def _check_json(text: str) -> None:
    try:
        document = json.loads(
            text,
            object_pairs_hook=_without_repetition,
            parse_constant=_reject_constant,
            parse_int=_integer,
            parse_float=_finite,
        )
    except json.JSONDecodeError as error:
        raise DocumentError(
            f"the document: Invalid JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from None
    except RecursionError:
        raise DocumentError(_too_deep()) from None
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [inner for value in level for inner in _values(value)]
        if not level:
            return
    raise DocumentError(_too_deep())


def _values(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _too_deep() -> str:
    return f"nested more than {MAX_DEPTH} levels deep"


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) > MAX_KEYS:
        raise DocumentError(f"an object has more than {MAX_KEYS:,} keys")
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DocumentError(f"the key '{printable(twice)}' is repeated")
    return found


def _reject_constant(name: str) -> Any:
    raise DocumentError(f"Invalid JSON: {name} is not a number")


def _integer(digits: str) -> int:
    if len(digits) > len(str(-LARGEST_INTEGER)) or abs(int(digits)) > LARGEST_INTEGER:
        raise DocumentError(f"the number {printable(digits)} is too large")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise DocumentError(f"the number {printable(digits)} is too large")
    return number


def _described(error: ValidationError, place_parts: int) -> str:
    entries = error.errors(include_url=False, include_input=False)
    problems = [_one(entry, place_parts) for entry in entries[:MAX_PROBLEMS_SHOWN]]
    more = len(entries) - len(problems)
    return "; ".join(problems) + (f"; and {more} more" if more else "")


def _one(entry: Any, place_parts: int) -> str:
    where = printable(".".join(str(part) for part in entry["loc"][:place_parts]))
    problem = printable(entry["msg"].removeprefix("Value error, "), most=3 * MAX_SHOWN)
    return f"{where}: {problem}" if where else problem
