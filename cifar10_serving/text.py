"""Text for users: untrusted names made safe to print, and suggestions for misspelt ones."""

import difflib
from collections.abc import Iterable
from functools import lru_cache
from typing import Final


def printable(text: str) -> str:
    """Return the text with everything unprintable escaped as in Python: line breaks, terminal codes, bidi marks."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "backslashreplace").decode()
        for character in text
    )


MAX_CHARACTERS: Final = 64
CUTOFF: Final = 0.7


def closest(given: str, known: Iterable[str]) -> str | None:
    """Return the known name that is closest to a mistyped one; None if none is close."""
    return _closest(given, tuple(known)) if len(given) <= MAX_CHARACTERS else None


@lru_cache(maxsize=256)
def _closest(given: str, known: tuple[str, ...]) -> str | None:
    by_lower_case = {name.lower(): name for name in known}
    matches = difflib.get_close_matches(given.lower(), by_lower_case, n=1, cutoff=CUTOFF)
    return by_lower_case[matches[0]] if matches else None


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'sequential'?)` if a known name is close to the given one, otherwise an empty string."""
    name = closest(given, known)
    return f" (did you mean '{name}'?)" if name is not None else ""
