"""A section of the page."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Section:
    """A heading, its Markdown blocks, and its plots: file name without suffix -> SVG document."""

    title: str
    blocks: list[str]
    plots: dict[str, str] = field(default_factory=dict)
