"""Rows of text under each other, for terminals and for pipes."""

from collections.abc import Sequence
from typing import Final

from catalog.printable import printable

SMALLEST: Final = 0.0005
"""The smallest share that is 0.1 % when it is rounded."""


def aligned(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """The rows as lines whose columns line up.

    Args:
        right: the columns whose text ends, rather than begins, in line.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["  ".join(_cell(text, widths[at], at in right) for at, text in enumerate(row)).rstrip() for row in rows]


def printable_lines(text: str) -> str:
    """The same of several lines, for what a server says of itself."""
    return "\n".join(map(printable, text.split("\n")))


def percent(share: float) -> str:
    """A share of 1, as a percentage; what rounds to nothing or to all of it is said to be less or more."""
    if 0 < share < SMALLEST:
        return "<0.1 %"
    return ">99.9 %" if 1 - SMALLEST < share < 1 else f"{100 * share:.1f} %"


def _cell(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)
