"""List the published models and their versions."""

from pathlib import Path

from cifar10_serving.artifacts.layout import published_versions
from training.cifar10 import MODEL_NAMES


def published_models(models: Path) -> dict[str, list[int]]:
    """Map each published model to its versions, ascending: the tutorial's models in its order, then others by name.

    Raises:
        OSError: the folder can't be read.
    """
    found = {entry.name for entry in models.iterdir() if not entry.name.startswith(".") and entry.is_dir()}
    known = [name for name in MODEL_NAMES if name in found]
    versions = {name: published_versions(models, name) for name in [*known, *sorted(found.difference(known))]}
    return {name: numbers for name, numbers in versions.items() if numbers}
