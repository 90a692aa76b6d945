"""Finds what someone who mistyped a name meant."""

import difflib
from collections.abc import Iterable


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """` (did you mean 'sequential'?)` where one of the known names is close to the given one, else nothing."""
    matches = difflib.get_close_matches(given.lower(), list(known), n=1, cutoff=0.7)
    return f" (did you mean '{matches[0]}'?)" if matches else ""
