"""Names of published models: which there are, and which a new one may have."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cifar10_serving.artifacts.layout import published_models, published_versions, read_metadata, version_folder
from cifar10_serving.artifacts.metadata import MAX_TITLE, NAME_PATTERN
from cifar10_serving.errors import ArtifactError, PublishError
from training.cifar10 import MODEL_NAMES, identity

LEGAL_NAME: Final = "up to 64 small letters, digits, dots, hyphens or underscores, the first a letter or digit"


def versions_by_model(models: Path) -> dict[str, list[int]]:
    """Map each published model to its versions, ascending: the tutorial's models first, others by first publishing.

    Raises:
        OSError: the folder can't be read.
    """
    found = published_models(models)
    names = [*(name for name in MODEL_NAMES if name in found), *(name for name in found if name not in MODEL_NAMES)]
    return {name: published_versions(models, name) for name in names}


def newest_labels(models: Path, name: str) -> tuple[int, list[str]] | None:
    """Return the number and the labels of a name's newest version; None if there is none that can be read."""
    versions = published_versions(models, name)
    if not versions:
        return None
    try:
        return versions[-1], read_metadata(version_folder(models, name, versions[-1])).labels
    except ArtifactError:
        return None


@dataclass(frozen=True)
class Name:
    """The name to publish as, and the title."""

    name: str
    title: str

    @classmethod
    def of_the_six(cls, model: str, *, title: str | None = None) -> Self:
        """Return the name of one of the six models on CIFAR-10."""
        known = identity(model)
        return cls(known.name, title or known.title)

    @classmethod
    def checked(cls, name: str, *, title: str | None = None) -> Self:
        """Return a name and title that can be published; without a title, it is made from the name.

        Raises:
            PublishError: they can't.
        """
        if not re.fullmatch(NAME_PATTERN, name):
            raise PublishError(
                f"the name '{name}'",
                expected=LEGAL_NAME,
                remedy="choose another name with --name",
            )
        shown = title or re.sub("[._-]+", " ", name).strip().capitalize() or name
        if len(shown) > MAX_TITLE or not shown.isprintable() or not shown.strip():
            raise PublishError(
                f"the title '{shown[:MAX_TITLE]}'",
                expected=f"one line of at most {MAX_TITLE} characters",
                remedy="give another --title",
            )
        return cls(name, shown)
