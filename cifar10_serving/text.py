"""Text for people: names that others chose made safe to print, and the close match of a misspelt one."""

import difflib
from collections.abc import Iterable
from functools import lru_cache
from typing import Final


def printable(text: str) -> str:
    """The text with everything that isn't printable escaped as Python does: line ends, terminal codes, bidi marks."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "backslashreplace").decode()
        for character in text
    )


MAX_CHARACTERS: Final = 64
CUTOFF: Final = 0.7


def closest(given: str, known: Iterable[str]) -> str | None:
    """Return the known name that a mistyped one is closest to; None where none is close."""
    return _closest(given, tuple(known)) if len(given) <= MAX_CHARACTERS else None


@lru_cache(maxsize=256)
def _closest(given: str, known: tuple[str, ...]) -> str | None:
    by_lower_case = {name.lower(): name for name in known}
    matches = difflib.get_close_matches(given.lower(), by_lower_case, n=1, cutoff=CUTOFF)
    return by_lower_case[matches[0]] if matches else None


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'sequential'?)` where one of the known names is close to the given one, else nothing."""
    name = closest(given, known)
    return f" (did you mean '{name}'?)" if name is not None else ""
