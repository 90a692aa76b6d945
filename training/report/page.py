"""The whole page: title, what it says in short, links, and the sections in their order."""

from dataclasses import dataclass

from cifar10_serving.artifacts.labels import MODELS
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
from training.report.sections.tutorial import against_the_tutorial
from training.report.versions import Published


@dataclass(frozen=True)
class Page:
    """The page's Markdown, and its plots: file name without ending -> SVG document."""

    markdown: str
    plots: dict[str, str]


def compose(published: Published, latencies: MeasuredLatencies) -> Page:
    """Everything that the report says of these versions."""
    sections = [
        against_the_tutorial(published),
        against_the_goals(published),
        conclusions(published),
        learning_curves(published),
        class_results(published),
        confusion_matrices(published),
        right_and_wrong(published),
        shifted_pictures(published),
        accuracy_against_cost(published, latencies),
        provenance(published),
    ]
    blocks = ["# Results on CIFAR-10", _in_short(published), _contents(sections)]
    for section in sections:
        blocks += [f"## {section.title}", *section.blocks]
    plots = {name: document for section in sections for name, document in section.plots.items()}
    return Page("\n\n".join(blocks) + "\n", plots)


def _in_short(published: Published) -> str:
    best = max(published.versions, key=lambda version: version.test.accuracy)
    models = {version.metadata.name for version in published.versions}
    return (
        f"The models of a 2023 tutorial, trained again and published by this project: {len(models)} of {len(MODELS)} "
        f"models, {_count(len(published.versions), 'version')}. The highest test accuracy is "
        f"**{best.test.accuracy:.4f}** ({plain(best.metadata.title)}, {code(best.key)}, recipe {plain(best.recipe)}). "
        f"Every number is computed from the published files: [{PROVENANCE.lower()}](#{anchor(PROVENANCE)})."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _contents(sections: list[Section]) -> str:
    return items([f"[{section.title}](#{anchor(section.title)})" for section in sections])
