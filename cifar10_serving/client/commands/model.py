"""`model NAME`: a model's versions; with `--version`, the metadata of one of them."""

import argparse

from cifar10_serving.artifacts.metadata import Evaluation, ModelMetadata
from cifar10_serving.client._client import Client
from cifar10_serving.client.commands.arguments import add_json, add_service, client_options, positive_number
from cifar10_serving.client.commands.output import aligned, printable_lines, stored_accuracy
from cifar10_serving.schemas import ModelStatus, VersionStatus


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    command.add_argument("name", metavar="NAME", help="name of a model, as `models` lists it")
    command.add_argument("--version", type=positive_number, metavar="N", help="show the metadata of this version")
    add_json(command)
    add_service(command)


def run(arguments: argparse.Namespace) -> int:
    """Print the model or the version."""
    with Client(**client_options(arguments)) as client:
        if arguments.version is None:
            status = client.model(arguments.name)
            print(status.model_dump_json() if arguments.json else printable_lines(_describe(status)))
        else:
            metadata = client.metadata(arguments.name, arguments.version)
            print(metadata.model_dump_json() if arguments.json else printable_lines(_describe_version(metadata)))
    return 0


def _describe(model: ModelStatus) -> str:
    serves = "nothing" if model.serving_version is None else f"version {model.serving_version}"
    lines = [
        f"{model.name}: {model.title}, {model.state}{', the default' if model.default else ''}",
        f"serving: {serves}; policy: {model.policy}",
    ]
    if model.labels:
        lines.append(f"labels: {', '.join(f'{label} = {version}' for label, version in model.labels.items())}")
    if model.split:
        lines.append(f"split: {', '.join(f'version {version}: {share}' for version, share in model.split.items())}")
    if model.problem:
        lines.append(f"problem: {model.problem}")
    header = ("version", "state", "recipe", "accuracy", "images", "load")
    table = aligned([header, *map(_row, model.versions)], right=frozenset({0, 3, 4, 5}))
    reasons = [f"version {entry.version}: {entry.reason}" for entry in model.versions if entry.reason]
    return "\n".join([*lines, "", *table, *reasons])


def _row(entry: VersionStatus) -> tuple[str, ...]:
    return (
        str(entry.version),
        entry.state,
        entry.recipe or "-",
        stored_accuracy(entry),
        "-" if entry.test_images is None else f"{entry.test_images:,}",
        "-" if entry.load_time_ms is None else f"{entry.load_time_ms:.0f} ms",
    )


def _describe_version(metadata: ModelMetadata) -> str:
    lines = [
        f"{metadata.name} version {metadata.version}: {metadata.title}, {metadata.architecture}",
        f"recipe {metadata.recipe.get('name')}, {metadata.parameters.total:,} parameters",
        _origin(metadata),
        f"published {metadata.published_at:%Y-%m-%d %H:%M}",
        "",
        *(map(_evaluation, metadata.evaluations) if metadata.evaluations else ["accuracy: not measured"]),
    ]
    test = next((entry for entry in metadata.evaluations if entry.split == "test"), None)
    if test is not None:
        header = ("class", "images", "precision", "recall", "F1")
        rows = [
            (entry.label, f"{entry.n:,}", f"{entry.precision:.3f}", f"{entry.recall:.3f}", f"{entry.f1:.3f}")
            for entry in test.per_class
        ]
        lines += ["", *aligned([header, *rows], right=frozenset({1, 2, 3, 4}))]
    return "\n".join(lines)


def _origin(metadata: ModelMetadata) -> str:
    run, dataset, imported = metadata.training, metadata.dataset, metadata.imported
    if run is not None and dataset is not None:
        minutes = run.wall_time_s / 60
        return f"trained on {dataset.train:,} images of {dataset.name} in {minutes:.1f} minutes, seed {run.seed}"
    if imported is not None:
        return (
            f"imported from {imported.file_name} ({imported.source}): pixels {imported.scaling}, "
            f"by {imported.scaling_by}; outputs {imported.outputs}"
        )
    return "of unknown origin"


def _evaluation(entry: Evaluation) -> str:
    return (
        f"{entry.split}, {entry.runtime} in {entry.precision}: accuracy {entry.accuracy:.4f} on {entry.n:,} images, "
        f"loss {entry.loss:.4f}, calibration error {entry.expected_calibration_error:.4f}"
    )
