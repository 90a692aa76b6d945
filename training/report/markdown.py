"""The pieces of Markdown that the page is made of, in the dialect that both GitHub and `training.report.html` read."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, Generic, TypeVar

PLOTS_FOLDER: Final = "plots"
MAX_FILE_PART: Final = 100
SPECIAL_CHARACTERS: Final = re.compile(r"([\\`*\[\]<>&#~]|(?<!\w)_|_(?!\w))")
"""An underscore inside a word stands for itself."""

Row = TypeVar("Row")


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column of a table: its head, and the Markdown of its cell in a row; numbers stand to the right."""

    head: str
    cell: Callable[[Row], str]
    numeric: bool = True


def table(columns: Sequence[Column[Row]], rows: Sequence[Row]) -> str:
    """A table with these columns, one line for each row."""
    lines = [
        [column.head for column in columns],
        ["---:" if column.numeric else "---" for column in columns],
        *([column.cell(row).replace("|", r"\|") for column in columns] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: str) -> str:
    """Text that stands in the page as it is, whatever characters it has."""
    return SPECIAL_CHARACTERS.sub(r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Text in the typeface of code."""
    line = " ".join(text.split())
    runs = re.findall("`+", line)
    fence = "`" * (max(map(len, runs), default=0) + 1)
    padding = " " if runs else ""
    return f"{fence}{padding}{line}{padding}{fence}"


def picture(description: str, name: str) -> str:
    """A plot that leads to itself, to be looked at enlarged; `name` is that of its file without the ending."""
    file = f"{PLOTS_FOLDER}/{name}.svg"
    return f"[![{plain(description)}]({file})]({file})"


def file_part(text: str) -> str:
    """Text as a part of a file's name, with whatever is no letter, digit, - or _ replaced."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)[:MAX_FILE_PART]


def items(entries: Sequence[str]) -> str:
    """A list."""
    return "\n".join(f"- {entry}" for entry in entries)


def folded(summary: str, body: str) -> str:
    """A part that opens on a click; `summary` is plain text."""
    line = escape(" ".join(summary.split()), quote=False)
    return f"<details>\n<summary>{line}</summary>\n\n{body}\n\n</details>"


def anchor(heading: str) -> str:
    """What a heading is called in a link, by GitHub's rule."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
