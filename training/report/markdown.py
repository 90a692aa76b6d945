"""Build Markdown elements, in the dialect that both GitHub and `training.report.html` render."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, Generic, TypeVar

PLOTS_FOLDER: Final = "plots"
MAX_FILE_PART: Final = 100
SPECIAL_CHARACTERS: Final = re.compile(r"([\\`*\[\]<>&#~]|(?<!\w)_|_(?!\w))")
"""An underscore inside a word has no special meaning."""

Row = TypeVar("Row")


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column of a table: its heading, and a function from a row to the cell's Markdown; numbers are right-aligned."""

    head: str
    cell: Callable[[Row], str]
    numeric: bool = True


def table(columns: Sequence[Column[Row]], rows: Sequence[Row]) -> str:
    """Build a table with one line per row."""
    lines = [
        [column.head.replace("|", r"\|") for column in columns],
        ["---:" if column.numeric else "---" for column in columns],
        *([column.cell(row).replace("|", r"\|") for column in columns] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: str) -> str:
    """Escape text so that it appears unchanged, whatever characters it has."""
    return SPECIAL_CHARACTERS.sub(r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Format text as inline code."""
    line = " ".join(text.split())
    runs = re.findall("`+", line)
    fence = "`" * (max(map(len, runs), default=0) + 1)
    padding = " " if runs else ""
    return f"{fence}{padding}{line}{padding}{fence}"


def picture(description: str, name: str) -> str:
    """Build an image of a plot that links to the full-size plot; `name` is the file name without suffix."""
    file = f"{PLOTS_FOLDER}/{name}.svg"
    return f"[![{plain(description)}]({file})]({file})"


def file_part(text: str) -> str:
    """Convert text to a part of a file name: replace everything except letters, digits, - and _."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)[:MAX_FILE_PART]


def items(entries: Sequence[str]) -> str:
    """Build a list."""
    return "\n".join(f"- {entry}" for entry in entries)


def folded(summary: str, body: str) -> str:
    """Build a collapsible block; `summary` is plain text."""
    line = escape(" ".join(summary.split()), quote=False)
    return f"<details>\n<summary>{line}</summary>\n\n{body}\n\n</details>"


def anchor(heading: str) -> str:
    """Return the link target of a heading, by GitHub's rule."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
