import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from cifar10_serving.artifacts.layout import read_metadata, version_folder
from cifar10_serving.artifacts.robustness import Robustness
from cifar10_serving.errors import ProjectError
from cifar10_serving.runtimes.selection import open_runtime
from tests.conftest import MODELS, PUBLISHED, every_published_version
from tests.training.report.conftest import Report, add_version
from training.cifar10 import TUTORIAL_RESULTS
from training.report import ReportError, write_report


def rows(markdown: str, *, first_cell: str) -> list[list[str]]:
    lines = [line.strip("| ") for line in markdown.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.split(" | ")] for line in lines]
    return [line for line in cells if line[0] == first_cell]


def table_cells(markdown: str) -> list[str]:
    """Every cell of every table, as a reader sees it."""
    lines = [line for line in markdown.splitlines() if line.startswith("|") and "---" not in line]
    cells = [cell.strip() for line in lines for cell in line.removeprefix("|").removesuffix("|").split("|")]
    return [re.sub(r"[*`\\]", "", cell) for cell in cells]


def pictures(markdown: str) -> list[str]:
    return re.findall(r"!\[[^\]]*\]\(([^)]*)\)", markdown)


def latest_of_each_recipe() -> set[tuple[str, int]]:
    """Name and version of what a model was last published as by each recipe."""
    latest = {}
    for name, version in every_published_version():
        latest[name, read_metadata(version_folder(MODELS, name, version)).recipe["name"]] = version
    return {(name, version) for (name, _), version in latest.items()}


def test_results_are_those_of_the_metadata_and_of_the_tutorial(report: Report) -> None:
    for name, version in every_published_version():
        if name not in TUTORIAL_RESULTS:  # `test_other_models` has such
            continue
        metadata = read_metadata(version_folder(MODELS, name, version))
        test = metadata.evaluation("test", "float32", "openvino")
        assert test is not None
        tutorial = TUTORIAL_RESULTS[metadata.name]
        row = next(row for row in rows(report.markdown, first_cell=metadata.title) if row[1] == str(version))
        assert row[3:] == [
            f"{tutorial.test_accuracy:.4f}",
            f"**{test.accuracy:.4f}**",
            f"{test.accuracy - tutorial.test_accuracy:+.4f}",
            f"{tutorial.test_loss:.4f}",
            f"{test.loss:.4f}",
            f"{test.loss - tutorial.test_loss:+.4f}",
        ]


def test_nothing_in_metadata_becomes_html_or_breaks_a_plot(tmp_path: Path) -> None:
    hostile = "<b>$\\x$</b>\n\n<script>` `` ```</script>"
    models = tmp_path / "models"
    recipe = {"name": hostile, "backbone_weights": hostile}
    add_version(models, "vgg16", 1, title=hostile, recipe=recipe, training={"command": hostile, "hardware": hostile})
    report = Report(tmp_path, write_report(models, tmp_path))
    assert not {"b", "script"} & report.html.elements
    assert "<script>" in report.html.text


def test_training_classes_and_cost_are_those_of_the_metadata(report: Report) -> None:
    for name, version in every_published_version():
        metadata = read_metadata(version_folder(MODELS, name, version))
        test = metadata.evaluation("test", "float32", "openvino")
        assert test is not None
        recipe = str(metadata.recipe["name"])
        weights = metadata.recipe.get("backbone_weights")
        described = f"{recipe}, backbone `{weights}`" if weights else recipe
        total = f"{metadata.parameters.total:,}"
        tables = rows(report.markdown, first_cell=f"`{name}/{version}`")
        minutes = f"{metadata.training_run.wall_time_s / 60:.1f}"
        seed, epochs = str(metadata.training_run.seed), str(len(metadata.training_run.history))
        trainable = f"{metadata.parameters.trainable:,}"
        assert [described, total, trainable, epochs, seed, minutes, metadata.training_run.hardware] in [
            row[1:] for row in tables
        ]
        if (name, version) not in latest_of_each_recipe():
            continue
        assert [recipe, *(f"{entry.recall:.3f}" for entry in test.per_class)] in [row[1:] for row in tables]
        assert [recipe, f"{test.accuracy:.4f}", total] in [row[1:4] for row in tables]
        for entry in test.per_class:
            scores = [f"{entry.precision:.3f}", f"{entry.recall:.3f}", f"{entry.f1:.3f}", f"{entry.n:,}"]
            assert scores in [row[1:] for row in rows(report.markdown, first_cell=entry.label)]


def test_tuned_versions_stand_beside_their_goals(report: Report) -> None:
    _, _, section = report.markdown.partition("## Against the goals")
    section, _, _ = section.partition("\n## ")
    for name, version in every_published_version():
        metadata = read_metadata(version_folder(MODELS, name, version))
        test = metadata.evaluation("test", "float32", "openvino")
        assert test is not None
        found = rows(section, first_cell=f"`{name}/{version}`")
        has_goal = name in TUTORIAL_RESULTS and metadata.recipe["name"] in ("tuned", "distilled")
        if has_goal and (name, version) in latest_of_each_recipe():
            (row,) = found
            goal, reached, difference = float(row[2]), float(row[3].strip("*")), float(row[4])
            assert reached == test.accuracy
            assert difference == pytest.approx(reached - goal, abs=1e-9)
            assert row[5] == ("met" if reached >= goal else "not met")
        else:
            assert found == []


def test_shifted_pictures_are_those_that_were_measured(report: Report) -> None:
    _, _, section = report.markdown.partition("## On corrupted images")
    section, _, _ = section.partition("\n## ")
    measured = [Robustness.model_validate_json(file.read_bytes()) for file in MODELS.glob("*/robustness-*.json")]
    assert measured
    for entry in measured:
        (row,) = rows(section, first_cell=f"`{entry.name}/{entry.version}`")
        accuracies = [result.accuracy for result in entry.results]
        assert [float(cell) for cell in row[1:]] == [
            entry.clean_accuracy, *accuracies, pytest.approx(entry.mean_accuracy, abs=5e-5)
        ]  # fmt: skip


def test_every_version_has_its_own_milliseconds(report: Report) -> None:
    for name, version in latest_of_each_recipe():
        measured = [row[5:] for row in rows(report.markdown, first_cell=f"`{name}/{version}`") if len(row) == 7]
        medians = [float(cell.split(" (")[0]) for cell in measured[-1]]
        quartiles = [[float(part) for part in cell.split(" (")[1].rstrip(")").split(" to ")] for cell in measured[-1]]
        assert all(0 < low <= median <= high for median, (low, high) in zip(medians, quartiles, strict=True))


def test_models_without_a_version_are_told_with_the_command_that_publishes_them(report: Report) -> None:
    missing = [name for name in TUTORIAL_RESULTS if name not in PUBLISHED]
    for name in missing:
        assert f"`python -m training fit {name} --recipe tutorial`" in report.markdown
    assert report.markdown.count("not published |") == 2 * len(missing)


def test_every_picture_is_there_and_is_svg_and_nothing_is_written_that_is_not_shown(report: Report) -> None:
    shown = [report.folder / picture for picture in pictures(report.markdown)]
    assert len(shown) == len(set(shown))
    assert {*shown, report.folder / "results.md", report.folder / "results.html"} == set(report.files)
    assert {file for file in report.folder.rglob("*") if file.is_file()} == set(report.files)
    for file in shown:
        document = file.read_text(encoding="utf-8")
        assert ET.fromstring(document).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314  # we wrote it
        assert not re.search(r'(href|src)="(?!#|data:)', document)


def test_html_says_what_the_markdown_says(report: Report) -> None:
    html = report.html
    assert html.open_elements == []
    assert html.cells == table_cells(report.markdown)
    assert html.pictures == pictures(report.markdown)
    assert {link.removeprefix("#") for link in html.links if link.startswith("#")} <= html.ids


def test_html_is_one_file_that_needs_nothing_from_elsewhere(report: Report) -> None:
    html = report.html
    assert not html.elements & {"script", "link", "iframe"}
    assert not [link for link in [*html.links, *html.pictures] if "//" in link]
    assert "prefers-color-scheme: dark" in html.text
    assert "url(" not in html.text


def test_page_says_nothing_of_where_it_was_written(report: Report) -> None:
    assert str(report.folder) not in report.markdown
    assert str(MODELS) not in report.markdown


@pytest.mark.slow
def test_same_versions_give_the_same_plots(one_model: Path, tmp_path: Path) -> None:
    first = write_report(one_model, tmp_path / "first")
    write_report(one_model, tmp_path / "second")
    again = [file for file in first if file.suffix == ".svg" and file.stem != "accuracy_latency"]
    assert again
    for file in again:
        assert (tmp_path / "second/plots" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("quick_pictures")
def test_other_recipes_have_plots_of_their_own_and_a_broken_version_is_named(one_model: Path, tmp_path: Path) -> None:
    epoch = {"epoch": 1, "loss": 0.1, "accuracy": 0.9, "val_loss": None, "val_accuracy": None, "duration_s": 1.0}
    add_version(one_model, "sequential", 2, recipe={"name": "tuned"}, training={"history": [epoch]})
    vgg16 = {"name": "tuned", "backbone_weights": "none"}
    add_version(one_model, "vgg16", 1, title="VGG16", recipe=vgg16)
    (add_version(one_model, "vgg16", 2) / "metadata.json").write_text("{")
    (add_version(one_model, "functional", 1) / "saved_model.pb").write_bytes(b"changed")
    add_version(one_model, "subclassing", 1, recipe={"smoke": True})
    written = Report(tmp_path, write_report(one_model, tmp_path))
    names = {file.stem for file in written.files}
    assert {f"learning_curves_small_cnns_{recipe}" for recipe in ("tutorial", "tuned")} <= names
    assert "learning_curves_transfer_models_tuned" in names
    assert {"confusion_matrix_sequential_1", "confusion_matrix_sequential_2", "confusion_matrix_vgg16_1"} <= names
    assert "Trained on all training images, without validation: Sequential CNN." in written.markdown
    assert rows(written.markdown, first_cell="VGG16")[0][1:3] == ["1", "tuned, backbone `none`"]
    assert "VGG16 trained from random weights with the recipe tuned reaches 0.7063, +0.1026" in written.markdown
    assert "- `vgg16/2`: models/vgg16/2/metadata.json: the document: Invalid JSON" in written.markdown
    assert "- `functional/1`: models/functional/1/saved_model.pb is not what was published" in written.markdown
    assert "- `subclassing/1`: a smoke run" in written.markdown
    assert "**Not checked:** this needs published versions of all three" in written.markdown
    assert written.html.cells == table_cells(written.markdown)


@pytest.mark.usefixtures("quick_pictures")
def test_version_that_no_longer_gives_its_golden_answers_is_not_timed(
    one_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.report.latency.open_runtime", open_runtime)  # the real one, which differs a little
    add_version(one_model, "functional", 1, golden={"tolerance": {"float32": 1e-12}})
    write_report(one_model, tmp_path)
    markdown = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "- `functional/1`: functional version 1 answers its golden images up to" in markdown
    assert [row[5:] for row in rows(markdown, first_cell="`functional/1`") if len(row) == 7 and "not measured" in row]


def test_folder_of_models_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=f"no folder {tmp_path / 'nowhere'}"):
        write_report(tmp_path / "nowhere", tmp_path)


def test_nothing_published_is_a_clear_error_that_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with pytest.raises(ReportError, match=r"nothing is published in .* What to do: publish one: python -m training"):
        write_report(tmp_path / "models", tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_only_broken_versions_are_an_error_that_names_them(one_model: Path, tmp_path: Path) -> None:
    (version_folder(one_model, "sequential", 1) / "metadata.json").unlink()
    with pytest.raises(ProjectError, match=r"no valid version in .* sequential/1: .*metadata\.json is not there"):
        write_report(one_model, tmp_path / "report")


def test_folder_that_can_not_be_written_to_is_a_clear_error(one_model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ReportError, match=r"can't write the report to .*: Not a directory"):
        write_report(one_model, tmp_path / "file" / "report")
