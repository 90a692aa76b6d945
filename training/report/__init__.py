"""The report: a results page from the metadata of all published versions, as Markdown and HTML, with plots.

`sections` has the text and plots of each section. The page is composed in Markdown and rendered to HTML.
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
    """Write `results.md`, `results.html` and `plots/*.svg`; return their paths.

    Takes about a second per model and recipe, mostly for measuring the latency with OpenVINO. Existing files are
    replaced; other files are kept.

    Args:
        models: the published versions, `models/<name>/<version>/`.
        folder: the output folder; created if it doesn't exist.

    Raises:
        ReportError: nothing is published, no version is valid, or the folder can't be written to.
        RuntimeUnavailableError: OpenVINO isn't installed.
    """
    published = read_published(models)
    with _write_errors(folder):
        (folder / PLOTS_FOLDER).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass  # reports a read-only folder before anything is measured
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
            expected="a writable folder with enough free space",
            remedy="free up space, or choose another folder",
        ) from None
