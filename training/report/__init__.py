"""The report: one page of results from the metadata of all published versions, as Markdown and as HTML, with plots.

The text of a part and its plots are in `sections`; the page is written once, in Markdown, and the HTML is made from it.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cifar10_serving.artifacts.files import replaced_file
from training.report.errors import ReportError
from training.report.html import render_html
from training.report.latency import measure_latencies
from training.report.markdown import PLOTS_FOLDER
from training.report.page import compose
from training.report.versions import read_published

__all__ = ["HTML_FILE", "MARKDOWN_FILE", "ReportError", "write_report"]

MARKDOWN_FILE: Final = "results.md"
HTML_FILE: Final = "results.html"


def write_report(models: Path, folder: Path) -> list[Path]:
    """Write the page of results; the files written: `results.md`, `results.html` and `plots/*.svg`.

    Takes about a second for each model and recipe, which goes into measuring milliseconds an image with OpenVINO.
    Files of the same names are replaced, others are left alone.

    Args:
        models: the published versions, `models/<name>/<version>/`.
        folder: where to write; made where it is not there.

    Raises:
        ReportError: nothing is published, no version can be used, or the folder can't be written to.
        RuntimeUnavailableError: OpenVINO isn't installed.
    """
    published = read_published(models)
    with _write_errors(folder):
        (folder / PLOTS_FOLDER).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass  # what can't be written is told before anything is measured
    page = compose(published, measure_latencies(published.latest()))
    contents = {folder / PLOTS_FOLDER / f"{name}.svg": document for name, document in page.plots.items()}
    contents |= {folder / MARKDOWN_FILE: page.markdown, folder / HTML_FILE: render_html(page.markdown)}
    with _write_errors(folder):
        for file, text in contents.items():
            with replaced_file(file) as stream:
                stream.write(text.encode())
    return list(contents)


@contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ReportError(
            f"can't write the report to {folder}: {error.strerror or error}",
            expected="a folder with room that this user may write to",
            remedy="make room, or give another folder",
        ) from None
