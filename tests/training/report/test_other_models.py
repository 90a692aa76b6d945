"""A model that no tutorial, no goal and no corruption table knows: read as data, from its folder alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from cifar10_serving.runtimes.golden import GoldenAnswers, read_golden
from tests.other_models import publish_classifier
from tests.training.commands.training_command import run
from tests.training.report.conftest import Report, add_version
from tests.version_copies import rewrite_checksums
from training.report import write_report

pytestmark = pytest.mark.usefixtures("quick_pictures")

NAME = "seventh-model.v2"
LABELS = [f"class {index} | *" for index in range(10)]


def add_seventh(models: Path, **changes: Any) -> Path:
    recipe = {"name": "mine", "model": NAME, "backbone_weights": None}
    return add_version(models, NAME, 1, title="Seventh model", architecture="something new", recipe=recipe, **changes)


def rows(markdown: str, first_cell: str) -> list[list[str]]:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines() if line[:1] == "|"]
    return [line for line in lines if line[0] == first_cell]


def section(markdown: str, title: str) -> str:
    _, _, text = markdown.partition(f"## {title}\n")
    return text.partition("\n## ")[0]


@pytest.fixture
def seventh(one_model: Path, tmp_path: Path) -> Report:
    """The report of sequential version 1 and of a model with another name."""
    add_seventh(one_model)
    return Report(tmp_path, write_report(one_model, tmp_path))


def test_it_is_listed_without_results_of_the_tutorial(seventh: Report) -> None:
    (row,) = rows(seventh.markdown, "Seventh model")
    assert row == ["Seventh model", "1", "mine", "", "**0.7063**", "", "", "1.6001", ""]
    assert "1 of its 6 models and 1 other model, in 2 versions" in seventh.markdown


def test_it_has_its_own_classes_cost_and_curves_but_no_goal_and_no_corruptions(seventh: Report) -> None:
    key = f"`{NAME}/1`"
    for title in ("Class by class", "Confusion matrices", "Accuracy against cost", "Where the numbers come from"):
        assert rows(section(seventh.markdown, title), key)
    for title in ("Against the goals", "On corrupted images", "The tutorial's conclusions"):
        assert NAME not in section(seventh.markdown, title)
        assert "Seventh model" not in section(seventh.markdown, title)
    names = {file.stem for file in seventh.files}
    assert {f"confusion_matrix_{NAME}_1", f"right_and_wrong_{NAME}_1", "learning_curves_other_models_mine"} <= names
    assert "### Other models, recipe mine" in seventh.markdown


def test_its_labels_are_those_of_its_metadata(one_model: Path, tmp_path: Path) -> None:
    folder = add_seventh(one_model, labels=LABELS)
    metadata = json.loads((folder / "metadata.json").read_text())
    for evaluation in metadata["evaluations"]:
        for label, result in zip(LABELS, evaluation["per_class"], strict=True):
            result["label"] = label
    (folder / "metadata.json").write_text(json.dumps(metadata))
    report = Report(tmp_path, write_report(one_model, tmp_path))
    cells = report.html.cells
    assert set(LABELS) <= set(cells)
    assert any(cell.startswith(f"{LABELS[5]} → {LABELS[3]} 175, ") for cell in cells)
    assert rows(report.markdown, "`sequential/1`")
    assert not [cell for cell in cells if "airplane" in cell and NAME in cell]


def test_list_takes_its_title_from_its_metadata_and_names_a_version_that_can_not_be_read(one_model: Path) -> None:
    add_seventh(one_model)
    (add_version(one_model, "broken", 3) / "metadata.json").write_text("{")
    listed = run("list", "--models", one_model)
    assert listed.returncode == 0, listed.stderr
    lines = listed.stdout.splitlines()
    at = lines.index(f"{NAME} Seventh model: something new")
    assert lines[at + 1].strip() == "version 1, recipe mine, test accuracy 0.7063"
    assert any(line.strip().startswith("version 3: ") and "metadata.json" in line for line in lines)


@pytest.mark.slow
def test_it_is_exported_for_triton_with_the_others(one_model: Path, tmp_path: Path) -> None:
    add_seventh(one_model)
    result = run("export", "--for", "triton", "--models", one_model, "--to", tmp_path / "repository")
    assert result.returncode == 0, result.stderr
    assert {folder.name for folder in (tmp_path / "repository").iterdir()} == {"sequential", NAME}


def test_golden_answers_that_do_not_fit_the_labels_leave_a_version_out(one_model: Path, tmp_path: Path) -> None:
    folder = add_seventh(one_model)
    golden = read_golden(folder / "golden.npz")
    GoldenAnswers(golden.images, golden.labels + 1, golden.probabilities).save(folder / "golden.npz")
    rewrite_checksums(folder)
    report = Report(tmp_path, write_report(one_model, tmp_path))
    assert f"- `{NAME}/1`: models/{NAME}/1/golden.npz doesn't fit the 10 labels" in report.markdown


def test_models_without_a_tutorial_alone_are_reported_without_it(tmp_path: Path) -> None:
    publish_classifier(tmp_path / "models", "leaves", ["ash", "beech", "oak"], 24, 24)
    report = Report(tmp_path, write_report(tmp_path / "models", tmp_path))
    assert "the tutorial" not in report.markdown
    assert "VGG16" not in report.markdown
    assert "# Results on Leaves" in report.markdown
    (row,) = rows(section(report.markdown, "Results"), "leaves, made up")
    assert row[1:3] == ["1", "tuned"]
    assert "Not published" not in report.markdown


def test_version_that_was_never_measured_is_listed_with_the_reason(one_model: Path, tmp_path: Path) -> None:
    folder = add_seventh(one_model, evaluations=[])
    report = Report(tmp_path, write_report(one_model, tmp_path))
    assert f"- `{folder.parent.name}/1`: it was never measured on test images" in report.markdown


def test_imported_version_is_reported_with_its_origin(one_model: Path, tmp_path: Path) -> None:
    source = {
        "source": "keras", "file_name": "garden.keras", "sha256": "0" * 64, "size_bytes": 1, "layout": "NHWC",
        "outputs": "probabilities", "outputs_by": "option", "scaling": "divide_by_255", "scaling_by": "option",
        "scalings": [], "imported_at": "2026-11-28T12:00:00Z", "git_commit": "0" * 40,
        "command": "python -m training import garden.keras --name garden", "versions": {"python": "3.12"},
    }  # fmt: skip
    add_seventh(one_model, training=None, imported=source)
    report = Report(tmp_path, write_report(one_model, tmp_path))
    (origin,) = rows(section(report.markdown, "Where the numbers come from"), f"`{NAME}/1`")
    assert origin[1:3] == ["`python -m training import garden.keras --name garden`", "2026-11-28"]
    assert origin[4:] == ["imported", "imported"]
    assert NAME not in section(report.markdown, "Learning curves")
    assert rows(report.markdown, "Seventh model")
