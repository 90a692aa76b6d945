"""The titles of models, as their published versions have them."""

from collections.abc import Iterable

from bench.environments import ROOT
from cifar10_serving.artifacts.layout import published_versions, read_metadata, version_folder
from cifar10_serving.errors import ArtifactError


def titles(models: Iterable[str]) -> dict[str, str]:
    """Return the title of each model; its name where no version of it is published here."""
    return {model: _title(model) for model in models}


def _title(model: str) -> str:
    folder = ROOT / "models"
    for version in reversed(published_versions(folder, model)):
        try:
            return read_metadata(version_folder(folder, model, version)).title
        except ArtifactError:
            continue
    return model
