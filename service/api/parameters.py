"""Query parameters that more than one protocol takes."""

from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from catalog.rollout import LABEL_PATTERN, LEGAL_VERSION, parse_version


def _version(text: object) -> int | str:
    try:
        return parse_version(str(text))
    except ValueError:
        raise PydanticCustomError("version", "should be {legal}", {"legal": LEGAL_VERSION}) from None


VersionChoice = Annotated[
    int | str,
    BeforeValidator(_version),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": LABEL_PATTERN}],
            "examples": [1, "canary"],
        }
    ),
]
"""A version's number or label."""
