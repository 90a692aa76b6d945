"""`models`: the service's models, one per line."""

import argparse

from cifar10_serving.client._client import Client
from cifar10_serving.client.commands.arguments import add_json, add_service, client_options
from cifar10_serving.client.commands.output import aligned, stored_accuracy
from cifar10_serving.schemas import ModelStatus
from cifar10_serving.text import printable


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_json(command)
    add_service(command)


def run(arguments: argparse.Namespace) -> int:
    """Print the table."""
    with Client(**client_options(arguments)) as client:
        listed = client.models()
    if arguments.json:
        print(listed.model_dump_json())
        return 0
    header = ("model", "title", "state", "serves", "precision", "accuracy", "images", "parameters")
    rows = [_row(model) for model in listed.models]
    print("\n".join(aligned([header, *rows], right=frozenset({5, 6, 7}))))
    default = f"default model: {listed.default_model}" if listed.default_model else "no model is ready"
    computes = f"{listed.runtime} {listed.runtime_version} on {listed.device}"
    print(f"\n{printable(f'{computes}; {default}')}")
    return 0


def _row(model: ModelStatus) -> tuple[str, ...]:
    serving = next((entry for entry in model.versions if entry.version == model.serving_version), None)
    shown = serving or (model.versions[-1] if model.versions else None)
    return (
        f"{model.name}{' *' if model.default else ''}",
        model.title,
        model.state,
        "-" if model.serving_version is None else f"version {model.serving_version}",
        "-" if shown is None or shown.precision is None else shown.precision,
        stored_accuracy(shown),
        "-" if shown is None or shown.test_images is None else f"{shown.test_images:,}",
        "-" if shown is None or shown.parameters is None else f"{shown.parameters:,}",
    )
