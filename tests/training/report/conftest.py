"""The report on the repository's own models, and models folders with other versions."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cifar10_serving.artifacts.layout import version_folder
from tests.conftest import MODELS
from tests.fakes import FakeRuntime
from training.report import HTML_FILE, MARKDOWN_FILE, write_report

VOID_ELEMENTS = {"img", "meta", "br", "hr", "link", "input"}


@dataclass(frozen=True)
class Report:
    """A folder with a written report, and the files that the call reported."""

    folder: Path
    files: list[Path]

    @property
    def markdown(self) -> str:
        return (self.folder / MARKDOWN_FILE).read_text(encoding="utf-8")

    @property
    def html(self) -> "ParsedHtml":
        parser = ParsedHtml()
        parser.feed((self.folder / HTML_FILE).read_text(encoding="utf-8"))
        parser.close()
        return parser


class ParsedHtml(HTMLParser):
    """Table cells, links and pictures of a page; fails if an element is not closed correctly."""

    def __init__(self) -> None:
        super().__init__()
        self.open_elements: list[str] = []
        self.elements: set[str] = set()
        self.cells: list[str] = []
        self.text = ""
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.pictures: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.add(tag)
        self.ids |= {attributes["id"]} if "id" in attributes else set()
        self.links += [attributes["href"]] if tag == "a" else []
        self.pictures += [attributes["src"]] if tag == "img" else []
        self.cells += [""] if tag in ("td", "th") else []
        if tag not in VOID_ELEMENTS:
            self.open_elements.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open_elements.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if {"td", "th"} & set(self.open_elements):
            self.cells[-1] += data


@pytest.fixture(scope="module", autouse=True)
def quick_latencies() -> Iterator[None]:
    """Time a fake runtime, once."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr("training.report.latency.open_runtime", lambda *_: FakeRuntime())
        changed.setattr("training.report.latency.ROUNDS", 1)
        changed.setattr("training.report.latency.ROUND_DURATION_S", 0.0)
        yield


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Return the report on everything that is published."""
    folder = tmp_path_factory.mktemp("report") / "made" / "here"
    return Report(folder, write_report(MODELS, folder))


def add_version(models: Path, name: str, version: int, **changes: Any) -> Path:
    """Add a copy of sequential version 1 under another name and with other metadata; return its folder."""
    folder = version_folder(models, name, version)
    shutil.copytree(version_folder(MODELS, "sequential", 1), folder)
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata |= {"name": name, "version": version}
    for field, change in changes.items():
        metadata[field] = metadata[field] | change if isinstance(change, dict) and field in metadata else change
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder
