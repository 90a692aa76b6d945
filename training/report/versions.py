"""The versions in the report: every valid published version, and the reason why another one is left out.

A version that can't be read, is damaged or comes from a smoke run is listed with its reason; the others are still
reported.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cifar10_serving.artifacts.layout import read_metadata, verify, version_folder
from cifar10_serving.artifacts.metadata import EpochResult, Evaluation, ModelMetadata, RuntimeName
from cifar10_serving.errors import ArtifactError, ProjectError
from cifar10_serving.runtimes.golden import GoldenAnswers, read_golden
from training.cifar10 import MODEL_NAMES, MODELS, ModelIdentity
from training.cifar10 import SMALL_CNNS as SMALL_CNN_NAMES
from training.cifar10 import TRANSFER_MODELS as TRANSFER_MODEL_NAMES
from training.published import versions_by_model
from training.report.errors import ReportError

TUTORIAL: Final = "tutorial"
RANDOM_WEIGHTS: Final = "none"
RUNTIME_TITLES: Final[dict[RuntimeName, str]] = {"openvino": "OpenVINO", "tensorflow": "TensorFlow"}


@dataclass(frozen=True)
class Family:
    """Models that share a plot; `slug` is part of the plot's file name."""

    slug: str
    title: str
    models: tuple[str, ...]


SMALL_CNNS: Final = Family("small_cnns", "The three small CNNs", SMALL_CNN_NAMES)
TRANSFER_MODELS: Final = Family("transfer_models", "The three transfer models", TRANSFER_MODEL_NAMES)


@dataclass(frozen=True)
class PublishedVersion:
    """A valid version: its folder, metadata, golden answers, and float32 evaluation on the test set."""

    folder: Path
    metadata: ModelMetadata
    test: Evaluation
    golden: GoldenAnswers

    @property
    def key(self) -> str:
        """`name/version`, the path of its folder below `models/`."""
        return f"{self.metadata.name}/{self.metadata.version}"

    @property
    def slug(self) -> str:
        """`name_version`, for file names."""
        return f"{self.metadata.name}_{self.metadata.version}"

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the model's output."""
        return tuple(self.metadata.labels)

    @property
    def recipe(self) -> str:
        """The recipe's name."""
        return str(self.metadata.recipe.get("name", "not named"))

    @property
    def history(self) -> list[EpochResult]:
        """The epochs of its training; empty for an imported version."""
        return self.metadata.training.history if self.metadata.training else []

    @property
    def backbone_weights(self) -> str | None:
        """The backbone's initial weights: `imagenet`, `none` (random) or a file name; None without a backbone."""
        weights = self.metadata.recipe.get("backbone_weights")
        return None if weights is None else str(weights)

    @property
    def follows_tutorial(self) -> bool:
        """True if it was trained exactly as in the tutorial; a transfer model from random weights was not."""
        return self.recipe == TUTORIAL and self.backbone_weights != RANDOM_WEIGHTS and bool(self.history)

    @property
    def title(self) -> str:
        """Model, version and recipe for a reader."""
        return f"{self.metadata.title}, version {self.metadata.version} ({self.recipe})"


@dataclass(frozen=True)
class LeftOut:
    """A published version that is not in the report, and the reason."""

    name: str
    version: int
    reason: str


@dataclass(frozen=True)
class Published:
    """The published versions below a folder of models."""

    versions: list[PublishedVersion]
    left_out: list[LeftOut]

    def latest(self) -> list[PublishedVersion]:
        """Return the latest version of each model and recipe, in the order of `versions`."""
        return list({(version.metadata.name, version.recipe): version for version in self.versions}.values())

    def unpublished(self) -> list[ModelIdentity]:
        """Return the tutorial's models without a published version."""
        names = {version.metadata.name for version in self.versions} | {entry.name for entry in self.left_out}
        return [model for model in MODELS if model.name not in names]

    def families(self) -> list[Family]:
        """Return the tutorial's two families, and one of all other models if there are any."""
        others = tuple({v.metadata.name: None for v in self.versions if v.metadata.name not in MODEL_NAMES})
        return [SMALL_CNNS, TRANSFER_MODELS, *([Family("other_models", "Other models", others)] if others else [])]


def read_published(models: Path) -> Published:
    """Read every version below a folder of models, in the order of `versions_by_model`.

    Raises:
        ReportError: there is no such folder, nothing is published in it, or no version is valid.
    """
    if not models.is_dir():
        raise ReportError(
            f"no folder {models}", expected="a folder of published versions", remedy="pass it with --models"
        )
    versions: list[PublishedVersion] = []
    left_out: list[LeftOut] = []
    for name, numbers in _versions_by_model(models).items():
        for version in numbers:
            try:
                versions.append(_read(version_folder(models, name, version)))
            except (ProjectError, OSError) as error:
                # The committed page shows the folder's usual name, not its path on this machine.
                reason = str(error).replace(str(models), "models")
                left_out.append(LeftOut(name, version, reason))
    if not versions:
        reasons = " ".join(f"{entry.name}/{entry.version}: {entry.reason}" for entry in left_out)
        raise ReportError(
            f"no valid version in {models}. {reasons}" if left_out else f"nothing is published in {models}",
            expected="at least one valid version, such as models/sequential/1",
            remedy="publish one: python -m training fit sequential --recipe tutorial",
        )
    return Published(versions, left_out)


def _versions_by_model(models: Path) -> dict[str, list[int]]:
    try:
        return versions_by_model(models)
    except OSError as error:
        raise ReportError(
            f"{error.filename or models} can't be read: {error.strerror}",
            remedy="give this user read access to the folder of models",
        ) from None


def _read(folder: Path) -> PublishedVersion:
    metadata = read_metadata(folder)
    verify(folder, metadata)
    if metadata.recipe.get("smoke"):
        raise ReportError("a smoke run, whose results are meaningless")
    test = metadata.evaluation("test", "float32", "openvino")
    if test is None:
        raise ReportError("it was never measured on test images in float32 by OpenVINO")
    golden = read_golden(folder / metadata.golden.file)
    classes = len(metadata.labels)
    if golden.probabilities.shape[1] != classes or not ((golden.labels >= 0) & (golden.labels < classes)).all():
        raise ArtifactError(
            f"{folder / metadata.golden.file} doesn't fit the {classes} labels", remedy="publish it again"
        )
    return PublishedVersion(folder, metadata, test, golden)
