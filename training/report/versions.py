"""What the report is about: every published version that is whole, and why another one is not in it.

A version that can't be read, isn't what was published or comes from a smoke run is left out by name; it doesn't
keep the others from being reported.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cifar10_serving.artifacts.labels import CLASS_COUNT, CLASS_NAMES, MODELS, ModelIdentity, ModelName, identity
from cifar10_serving.artifacts.labels import SMALL_CNNS as SMALL_CNN_NAMES
from cifar10_serving.artifacts.labels import TRANSFER_MODELS as TRANSFER_MODEL_NAMES
from cifar10_serving.artifacts.layout import published_versions, read_metadata, verify, version_folder
from cifar10_serving.artifacts.metadata import Evaluation, ModelMetadata, RuntimeName
from cifar10_serving.errors import ArtifactError, ProjectError
from cifar10_serving.runtimes.golden import GoldenAnswers, read_golden
from training.report.errors import ReportError

TUTORIAL: Final = "tutorial"
RANDOM_WEIGHTS: Final = "none"
RUNTIME_TITLES: Final[dict[RuntimeName, str]] = {"openvino": "OpenVINO", "tensorflow": "TensorFlow"}


@dataclass(frozen=True)
class Family:
    """Models that are shown in one plot; `slug` is its part of a file's name."""

    slug: str
    title: str
    models: tuple[ModelName, ...]


SMALL_CNNS: Final = Family("small_cnns", "The three small CNNs", SMALL_CNN_NAMES)
TRANSFER_MODELS: Final = Family("transfer_models", "The three transfer models", TRANSFER_MODEL_NAMES)
FAMILIES: Final = (SMALL_CNNS, TRANSFER_MODELS)


@dataclass(frozen=True)
class PublishedVersion:
    """A whole version: its folder, metadata, golden answers, and its float32 evaluation on the test set."""

    folder: Path
    metadata: ModelMetadata
    test: Evaluation
    golden: GoldenAnswers

    @property
    def model(self) -> ModelIdentity:
        """Which of the six models it is."""
        return identity(self.metadata.name)

    @property
    def key(self) -> str:
        """`name/version`, as the folder below `models/` is called."""
        return f"{self.metadata.name}/{self.metadata.version}"

    @property
    def slug(self) -> str:
        """`name_version`, for the names of files."""
        return f"{self.metadata.name}_{self.metadata.version}"

    @property
    def recipe(self) -> str:
        """The recipe's name."""
        return str(self.metadata.recipe.get("name"))

    @property
    def backbone_weights(self) -> str | None:
        """What the backbone began with: `imagenet`, `none` (random) or a file's name; None without a backbone."""
        weights = self.metadata.recipe.get("backbone_weights")
        return None if weights is None else str(weights)

    @property
    def follows_tutorial(self) -> bool:
        """Whether it was trained as the tutorial trains; a transfer model on random weights was not."""
        return self.recipe == TUTORIAL and self.backbone_weights != RANDOM_WEIGHTS

    @property
    def title(self) -> str:
        """Model, version and recipe for a reader."""
        return f"{self.metadata.title}, version {self.metadata.version} ({self.recipe})"


@dataclass(frozen=True)
class LeftOut:
    """A version that is published and not in the report, and why."""

    name: ModelName
    version: int
    reason: str


@dataclass(frozen=True)
class Published:
    """All that lies below the folder of models."""

    versions: list[PublishedVersion]
    left_out: list[LeftOut]

    def latest(self) -> list[PublishedVersion]:
        """Of each model and recipe the last version, in the order of `cifar10_serving.artifacts.labels.MODELS`."""
        return list({(version.metadata.name, version.recipe): version for version in self.versions}.values())

    def unpublished(self) -> list[ModelIdentity]:
        """The models without a version."""
        names = {version.metadata.name for version in self.versions} | {entry.name for entry in self.left_out}
        return [model for model in MODELS if model.name not in names]


def read_published(models: Path) -> Published:
    """Every version below a folder of models, in the order of `MODELS` and of publishing.

    Raises:
        ReportError: no such folder, nothing published in it, or no version of it can be used.
    """
    if not models.is_dir():
        raise ReportError(f"no folder {models}", expected="the published versions", remedy="give it with --models")
    versions: list[PublishedVersion] = []
    left_out: list[LeftOut] = []
    for model in MODELS:
        for version in _version_numbers(models, model.name):
            try:
                versions.append(_read(version_folder(models, model.name, version)))
            except (ProjectError, OSError) as error:
                # The folder as the reader of a committed page knows it, not as it lies on this machine.
                reason = str(error).replace(str(models), "models")
                left_out.append(LeftOut(model.name, version, reason))
    if not versions:
        reasons = " ".join(f"{entry.name}/{entry.version}: {entry.reason}" for entry in left_out)
        raise ReportError(
            f"no version in {models} can be used. {reasons}" if left_out else f"nothing is published in {models}",
            expected="at least one whole version, such as models/sequential/1",
            remedy="publish one: python -m training fit sequential --recipe tutorial",
        )
    return Published(versions, left_out)


def _version_numbers(models: Path, name: ModelName) -> list[int]:
    try:
        return published_versions(models, name)
    except OSError as error:
        raise ReportError(
            f"{models / name} can't be read: {error.strerror}", remedy="let this user read the folder of models"
        ) from None


def _read(folder: Path) -> PublishedVersion:
    metadata = read_metadata(folder)
    verify(folder, metadata)
    if metadata.recipe.get("smoke"):
        raise ReportError("a smoke run, whose results mean nothing")
    test = metadata.evaluation("test", "float32", "openvino")
    if test is None:
        raise ArtifactError(f"{folder} has no evaluation on the test set in float32", remedy="publish it again")
    if tuple(result.label for result in test.per_class) != CLASS_NAMES or (
        [len(row) for row in test.confusion_matrix] != [CLASS_COUNT] * CLASS_COUNT
    ):
        raise ArtifactError(
            f"{folder} has an evaluation that is not of the {CLASS_COUNT} classes", remedy="publish it again"
        )
    return PublishedVersion(folder, metadata, test, read_golden(folder / metadata.golden.file))
