"""`python -m training list`: list the models that can be trained, and all published versions."""

import argparse
from pathlib import Path

from cifar10_serving.artifacts.layout import read_metadata, version_folder
from cifar10_serving.artifacts.metadata import ModelMetadata
from cifar10_serving.errors import ArtifactError
from training.cifar10 import MODELS
from training.commands.arguments import add_models
from training.published import versions_by_model


def add(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_models(command)


def run(arguments: argparse.Namespace) -> int:
    """Print each model with its published versions."""
    known = {model.name: f"{model.title}: {model.architecture}" for model in MODELS}
    published = versions_by_model(arguments.models) if arguments.models.is_dir() else {}
    for name in dict.fromkeys([*known, *published]):
        versions = {number: _read(version_folder(arguments.models, name, number)) for number in published.get(name, [])}
        latest = next((found for found in reversed(versions.values()) if isinstance(found, ModelMetadata)), None)
        described = f"{latest.title}: {latest.architecture}" if latest else known.get(name, "")
        print(f"{name:<12} {described}".rstrip())
        for number, found in versions.items():
            print(f"{'':<12}   version {number}{_described(found)}")
    return 0


def _read(folder: Path) -> ModelMetadata | ArtifactError:
    try:
        return read_metadata(folder)
    except ArtifactError as error:
        return error


def _described(found: ModelMetadata | ArtifactError) -> str:
    if isinstance(found, ArtifactError):
        return f": {found.problem}"
    test = found.evaluation("test", "float32", "openvino")
    accuracy = f", test accuracy {test.accuracy:.4f}" if test else ""
    return f", recipe {found.recipe.get('name', 'not named')}{accuracy}"
