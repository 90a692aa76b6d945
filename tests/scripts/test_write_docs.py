import json
import re
import subprocess
from pathlib import Path

import pytest

from scripts import write_docs
from scripts.write_docs import artifact_document, readme, replace_part, settings_document
from service.settings import Settings, variable
from tests.conftest import ROOT
from tests.other_models import publish_renamed

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture
def shipped_versions_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out versions that somebody published in this clone and that are not part of the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "models/*/*/metadata.json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        return  # no clone, such as an unpacked archive
    shipped = {(Path(file).parts[1], int(Path(file).parts[2])) for file in listed.stdout.splitlines()}
    assert shipped
    versions = [entry for entry in write_docs.stored_versions() if (entry.name, entry.version) in shipped]
    monkeypatch.setattr(write_docs, "stored_versions", lambda: versions)


@pytest.mark.usefixtures("shipped_versions_only")
def test_generated_parts_are_what_their_sources_say() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme(text) == text
    artifact = (ROOT / "docs/artifact.md").read_text(encoding="utf-8")
    assert artifact_document(artifact) == artifact
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == settings_document()


def test_version_that_was_imported_or_not_measured_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trained = publish_renamed(tmp_path / "models", "trained", "Trained")
    source: dict[str, object] = {
        "source": "keras", "file_name": "garden.keras", "sha256": "0" * 64, "size_bytes": 1000, "layout": "NHWC",
        "outputs": "probabilities", "outputs_by": "measurement", "scaling": "divide_by_255", "scaling_by": "option",
        "scalings": [], "imported_at": "2026-11-28T12:00:00Z", "git_commit": "0" * 40, "command": "import",
        "versions": {},
    }  # fmt: skip
    for name, changes in (("imported", {"training": None, "imported": source}), ("unmeasured", {"evaluations": []})):
        publish_renamed(tmp_path / "models", name, name)
        file = tmp_path / f"models/{name}/1/metadata.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    monkeypatch.setattr(write_docs, "ROOT", tmp_path)
    assert write_docs.stored_versions() == [trained]


def test_every_setting_is_documented() -> None:
    document = settings_document()
    assert all(f"`{variable(name)}`" in document for name in Settings.model_fields)


def test_only_the_part_between_the_marks_is_replaced() -> None:
    text = "before\n<!-- x: written by make docs -->\nold\n<!-- end of x -->\nafter\n"
    assert replace_part(text, "x", "new\n") == text.replace("old", "new")


@pytest.mark.parametrize("text", ["", "<!-- x: written by make docs -->", "<!-- end of x -->"])
def test_missing_mark_is_an_error_and_not_a_lost_document(text: str) -> None:
    with pytest.raises(ValueError, match="the part 'x' needs the marks"):
        replace_part(text, "x", "new")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_lead_somewhere_and_no_placeholder_is_left(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert not re.findall(r"@[A-Z]+@", text)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"
