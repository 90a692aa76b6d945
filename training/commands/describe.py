"""Format evaluations and versions for the commands' output."""

from pathlib import Path

from cifar10_serving.artifacts.layout import version_folder
from cifar10_serving.artifacts.metadata import Evaluation, ModelMetadata


def describe_evaluation(entry: Evaluation) -> str:
    """Format an evaluation as one line."""
    return (
        f"{entry.split:<10} {entry.runtime} {entry.runtime_version} {entry.precision}: "
        f"{entry.correct:,} of {entry.n:,} correct ({entry.accuracy:.4f}), loss {entry.loss:.4f}"
    )


def describe_published(metadata: ModelMetadata, models: Path) -> str:
    """Format a published version: its folder, and one line per evaluation."""
    lines = [f"published {version_folder(models, metadata.name, metadata.version)}"]
    lines += [f"  {describe_evaluation(entry)}" for entry in metadata.evaluations]
    return "\n".join(lines)
