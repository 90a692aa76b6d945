"""Render the page as one self-contained HTML file with inline styles and without scripts."""

from html import escape
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from training.report.markdown import anchor

STYLE_SHEET: Final = Path(__file__).with_name("page.css")
SCROLLING: Final = '<div class="scrolling" tabindex="0" role="region" aria-label="table">'


def render_html(markdown: str) -> str:
    """Render a Markdown page as an HTML document; its first heading becomes the title."""
    parser = MarkdownIt("commonmark", {"html": True, "xhtmlOut": False}).enable("table")
    tokens = parser.parse(markdown)
    headings = [index for index, token in enumerate(tokens) if token.type == "heading_open"]
    for index in headings:
        tokens[index].attrSet("id", anchor(tokens[index + 1].content))
    title = tokens[headings[0] + 1].content if headings else ""
    body = parser.renderer.render(_scrolling_tables(tokens), parser.options, {})
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE_SHEET.read_text(encoding='utf-8')}</style>\n"
        f"</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def _scrolling_tables(tokens: list[Token]) -> list[Token]:
    """Wrap each table in a box that scrolls sideways on narrow screens."""
    wrapped: list[Token] = []
    for token in tokens:
        if token.type == "table_open":
            wrapped.append(Token("html_block", "", 0, content=f"{SCROLLING}\n"))
        wrapped.append(token)
        if token.type == "table_close":
            wrapped.append(Token("html_block", "", 0, content="</div>\n"))
    return wrapped
