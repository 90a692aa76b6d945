"""A part of the page."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Section:
    """A heading, the blocks of Markdown below it, and its plots: file name without ending -> SVG document."""

    title: str
    blocks: list[str]
    plots: dict[str, str] = field(default_factory=dict)
