"""Rows of text under each other, for terminals and for pipes."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """The rows as lines whose columns line up.

    Args:
        right: the columns whose text ends, rather than begins, in line.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["  ".join(_cell(text, widths[at], at in right) for at, text in enumerate(row)).rstrip() for row in rows]


def printable(text: str) -> str:
    """The text with its control characters written out, so that a file's name can't move the cursor."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def percent(share: float) -> str:
    """A share of 1, as a percentage."""
    return f"{100 * share:.1f} %"


def _cell(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)
