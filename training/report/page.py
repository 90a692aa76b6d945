"""Compose the whole page: title, summary, table of contents, and the sections."""

from dataclasses import dataclass

from training.cifar10 import MODEL_NAMES
from training.report.latency import MeasuredLatencies
from training.report.markdown import anchor, code, items, plain
from training.report.sections.classes import class_results
from training.report.sections.conclusions import conclusions
from training.report.sections.confusions import confusion_matrices
from training.report.sections.cost import accuracy_against_cost
from training.report.sections.goals import against_the_goals
from training.report.sections.learning_curves import learning_curves
from training.report.sections.pictures import right_and_wrong
from training.report.sections.provenance import TITLE as PROVENANCE
from training.report.sections.provenance import provenance
from training.report.sections.section import Section
from training.report.sections.shifted_pictures import shifted_pictures
from training.report.sections.tutorial import against_the_tutorial, results, tutorial_of
from training.report.versions import Published


@dataclass(frozen=True)
class Page:
    """The page's Markdown, and its plots: file name without suffix -> SVG document."""

    markdown: str
    plots: dict[str, str]


def compose(published: Published, latencies: MeasuredLatencies) -> Page:
    """Compose the page about these versions."""
    has_tutorial = any(tutorial_of(version) is not None for version in published.versions)
    reproduced = [against_the_tutorial(published), against_the_goals(published), conclusions(published)]
    sections = [
        *(reproduced if has_tutorial else [results(published)]),
        learning_curves(published),
        class_results(published),
        confusion_matrices(published),
        right_and_wrong(published),
        shifted_pictures(published),
        accuracy_against_cost(published, latencies),
        provenance(published),
    ]
    datasets = dict.fromkeys(version.metadata.measured_data.name for version in published.versions)
    blocks = [f"# Results on {plain(' and '.join(datasets))}", _in_short(published), _contents(sections)]
    for section in sections:
        blocks += [f"## {section.title}", *section.blocks]
    plots = {name: document for section in sections for name, document in section.plots.items()}
    return Page("\n\n".join(blocks) + "\n", plots)


def _in_short(published: Published) -> str:
    best = max(published.versions, key=lambda version: version.test.accuracy)
    models = {version.metadata.name for version in published.versions}
    known = models.intersection(MODEL_NAMES)
    others = f" and {_count(len(models - known), 'other model')}" if models - known else ""
    reproduced = any(tutorial_of(version) is not None for version in published.versions)
    what = (
        "This project reproduces the models of a 2023 tutorial, and also trains them with its own recipes. Published "
        f"are {len(known)} of its {len(MODEL_NAMES)} models{others}"
        if reproduced
        else f"Published are {_count(len(models), 'model')}"
    )
    return (
        f"{what}, in {_count(len(published.versions), 'version')}. "
        f"The highest test accuracy is **{best.test.accuracy:.4f}** ({plain(best.metadata.title)}, {code(best.key)}, "
        f"recipe {plain(best.recipe)}). Every number is computed from the published files: see "
        f"[{PROVENANCE.lower()}](#{anchor(PROVENANCE)})."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _contents(sections: list[Section]) -> str:
    return items([f"[{section.title}](#{anchor(section.title)})" for section in sections])
