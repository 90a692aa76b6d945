"""List the published models and their versions, for the report, the documents and the command line."""

from pathlib import Path

from cifar10_serving.artifacts.layout import published_models, published_versions
from training.cifar10 import MODEL_NAMES


def versions_by_model(models: Path) -> dict[str, list[int]]:
    """Map each published model to its versions, ascending: the tutorial's models first, others by first publishing.

    Raises:
        OSError: the folder can't be read.
    """
    found = published_models(models)
    names = [*(name for name in MODEL_NAMES if name in found), *(name for name in found if name not in MODEL_NAMES)]
    return {name: published_versions(models, name) for name in names}
