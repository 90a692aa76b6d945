"""`python -m training list`."""

import argparse

from cifar10_serving.artifacts.labels import MODELS
from cifar10_serving.artifacts.layout import published_versions, read_metadata, version_folder
from training.commands.arguments import add_models


def add(command: argparse.ArgumentParser) -> None:
    """The options."""
    add_models(command)


def run(arguments: argparse.Namespace) -> int:
    """Print the models, and what is published of each."""
    for model in MODELS:
        print(f"{model.name:<12} {model.title}: {model.architecture}")
        for version in published_versions(arguments.models, model.name):
            metadata = read_metadata(version_folder(arguments.models, model.name, version))
            test = metadata.evaluation("test", "float32", "openvino")
            accuracy = f", test accuracy {test.accuracy:.4f}" if test else ""
            print(f"{'':<12}   version {version}, recipe {metadata.recipe.get('name')}{accuracy}")
    return 0
