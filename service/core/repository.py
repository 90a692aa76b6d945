"""The versions that this service knows: scans the models folder, loads each version, says which one answers.

A version is ready only after its files matched their checksums and its golden answers were right; one that
fails is kept with its reason and harms no other.
"""

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from catalog.artifact import published_versions, read_metadata, verify, version_folder
from catalog.errors import ProjectError
from catalog.labels import MODELS, ModelName
from catalog.metadata import Evaluation, ModelMetadata
from catalog.responses import ModelList, ModelStatus, Readiness, VersionState, VersionStatus
from runtime.base import LoadedModel, Runtime
from runtime.golden import check_golden
from service.errors import SettingsError, UnavailableError, UnknownModelError
from service.settings import variable

RETRY_WHILE_LOADING_S = 2
RETRY_AFTER_FAILURE_S = 60

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True, weakref_slot=True)
class ModelVersion:
    """One published version and how far it has come; `model` is there once it is ready."""

    name: str
    version: int
    folder: Path
    state: VersionState = VersionState.LOADING
    reason: str | None = None
    metadata: ModelMetadata | None = None
    model: LoadedModel | None = None
    load_time_ms: float | None = None


class ModelRepository:
    """Every version below a models folder, loaded by one runtime.

    Args:
        models: the folder that holds NAME/VERSION/.
        runtime: loads the versions and computes with them.
        default_model: answers where no model is asked for; `auto`: the ready one with the best test accuracy.

    Raises:
        SettingsError: the folder can't be read, or no version of the default model is published.
    """

    def __init__(self, models: Path, runtime: Runtime, default_model: ModelName | Literal["auto"] = "auto") -> None:
        self.runtime = runtime
        self._models = models
        self._default_model = default_model
        self._versions: dict[str, dict[int, ModelVersion]] = _scan(models)
        self._loaded = False
        self._stopped = False
        if default_model != "auto" and default_model not in self._versions:
            raise SettingsError(
                f"default model '{default_model}': no version of it is published",
                expected=f"auto, or one of {', '.join(self._versions) or 'those that will be published'}",
                remedy="change the setting default_model, or publish a version",
            )

    def load_all(self) -> None:
        """Load every version, the newest of each model first; returns when each is ready or failed."""
        pending = [entry for versions in self._versions.values() for entry in versions.values()]
        newest_first = sorted(pending, key=lambda entry: len(self._newer(entry)))
        for entry in newest_first:
            if self._stopped:
                return
            self._load(entry)
        self._loaded = True

    def stop_loading(self) -> None:
        """Have `load_all` return after the version that it is at; from any thread."""
        self._stopped = True

    @property
    def is_loaded(self) -> bool:
        """Whether every version is ready or failed."""
        return self._loaded

    @property
    def not_ready_reason(self) -> str | None:
        """Why no request is answered yet; None once loading is over and at least one version is ready."""
        if not self._loaded:
            return "models are being loaded"
        if not self._versions:
            return f"there is no published version in {self._models}"
        if not self._ready_models():
            return "no published version could be loaded; GET /models tells why"
        return None

    @property
    def retry_after_s(self) -> int:
        """When it makes sense to ask again, while not ready."""
        return RETRY_AFTER_FAILURE_S if self._loaded else RETRY_WHILE_LOADING_S

    def find(self, name: str | None = None, version: int | None = None) -> ModelVersion:
        """The ready version that a request means.

        Raises:
            UnknownModelError: there is no such model or version.
            UnavailableError: it is not ready, or nothing is yet.
        """
        if name is None:
            name = self.default_name() if self._loaded else None
            if name is None:
                raise UnavailableError(f"no model is ready: {self.not_ready_reason}", retry_after_s=self.retry_after_s)
        if version is None:
            serving = self._serving(name)
            if serving is not None:
                return serving
            entry = max(self._of(name).values(), key=lambda candidate: candidate.version)
        else:
            entry = self.get(name, version)
        if entry.state is VersionState.READY:
            return entry
        if entry.state is VersionState.LOADING:
            raise UnavailableError(
                f"{name} version {entry.version} is being loaded", retry_after_s=RETRY_WHILE_LOADING_S
            )
        raise UnavailableError(
            f"{name} version {entry.version} could not be loaded: {entry.reason}",
            retry_after_s=RETRY_AFTER_FAILURE_S,
            remedy="ask for another model or version; GET /models lists what is ready",
        )

    def get(self, name: str, version: int) -> ModelVersion:
        """A version in whatever state it is.

        Raises:
            UnknownModelError: there is no such model or version.
        """
        versions = self._of(name)
        if version not in versions:
            raise UnknownModelError(
                f"{name} has no version {version}", available=[str(known) for known in sorted(versions)]
            )
        return versions[version]

    def default_name(self) -> str | None:
        """The model that answers where none is asked for: the one set, or the best that is ready; else None."""
        if self._default_model != "auto":
            return self._default_model
        ready = self._ready_models()
        return max(ready, key=lambda name: self._accuracy_of(ready[name]), default=None)

    def readiness(self) -> Readiness:
        """Whether requests are answered, and the state of each model."""
        reason = self.not_ready_reason
        return Readiness(
            ready=reason is None, reason=reason, models={name: self._state(name) for name in self._names()}
        )

    def status(self) -> ModelList:
        """Every model with every version, in the catalog's order."""
        return ModelList(
            models=[self.model_status(name) for name in self._names()],
            default_model=self.default_name(),
            runtime=self.runtime.name,
            runtime_version=self.runtime.version,
            device=self.runtime.device,
            precision=self.runtime.precision,
        )

    def model_status(self, name: str) -> ModelStatus:
        """One model with every version, the newest first.

        Raises:
            UnknownModelError: there is no such model.
        """
        versions = [self._of(name)[version] for version in sorted(self._of(name), reverse=True)]
        serving = self._serving(name)
        return ModelStatus(
            name=name,
            title=next((known.title for known in MODELS if known.name == name), name),
            state=self._state(name),
            default=name == self.default_name(),
            serving_version=serving.version if serving else None,
            versions=[self._version_status(entry) for entry in versions],
        )

    def _load(self, entry: ModelVersion) -> None:
        start_s = time.monotonic()
        try:
            entry.metadata = read_metadata(entry.folder)
            verify(entry.folder, entry.metadata)
            model = self.runtime.load(entry.folder)
            difference = check_golden(model, entry.folder, entry.metadata, self.runtime.precision)
        except ProjectError as error:
            entry.reason = str(error).replace(f"{self._models}{os.sep}", "")
        except Exception as error:  # one broken version must not stop the others, whatever broke
            logger.exception("%s version %d", entry.name, entry.version)
            entry.reason = f"{type(error).__name__}: {error}"
        else:
            entry.load_time_ms = (time.monotonic() - start_s) * 1000
            entry.model = model
            entry.state = VersionState.READY
            logger.info(
                "%s version %d is ready after %.0f ms; golden answers differ by at most %.1e",
                entry.name,
                entry.version,
                entry.load_time_ms,
                difference,
            )
            return
        entry.state = VersionState.FAILED
        logger.error("%s version %d can't serve: %s", entry.name, entry.version, entry.reason)

    def _of(self, name: str) -> dict[int, ModelVersion]:
        if name not in self._versions:
            raise UnknownModelError(f"there is no model '{name[:100]}'", available=list(self._versions))
        return self._versions[name]

    def _names(self) -> list[str]:
        order = [known.name for known in MODELS]
        return sorted(self._versions, key=lambda name: (order.index(name) if name in order else len(order), name))

    def _state(self, name: str) -> VersionState:
        states = {entry.state for entry in self._of(name).values()}
        return next(
            state for state in (VersionState.READY, VersionState.LOADING, VersionState.FAILED) if state in states
        )

    def _serving(self, name: str) -> ModelVersion | None:
        ready = [entry for entry in self._of(name).values() if entry.state is VersionState.READY]
        return max(ready, key=lambda entry: entry.version, default=None)

    def _ready_models(self) -> dict[str, ModelVersion]:
        serving = {name: self._serving(name) for name in self._versions}
        return {name: entry for name, entry in serving.items() if entry is not None}

    def _newer(self, entry: ModelVersion) -> list[int]:
        return [version for version in self._versions[entry.name] if version > entry.version]

    def _evaluation(self, entry: ModelVersion) -> Evaluation | None:
        if entry.metadata is None:
            return None
        return entry.metadata.evaluation("test", self.runtime.precision, self.runtime.name)

    def _accuracy_of(self, entry: ModelVersion) -> float:
        evaluation = self._evaluation(entry)
        return evaluation.accuracy if evaluation else 0.0

    def _version_status(self, entry: ModelVersion) -> VersionStatus:
        evaluation, metadata = self._evaluation(entry), entry.metadata
        return VersionStatus(
            version=entry.version,
            state=entry.state,
            reason=entry.reason,
            recipe=str(metadata.recipe.get("name")) if metadata else None,
            test_accuracy=evaluation.accuracy if evaluation else None,
            test_images=evaluation.n if evaluation else None,
            parameters=metadata.parameters.total if metadata else None,
            size_bytes=metadata.export.size_bytes if metadata else None,
            load_time_ms=entry.load_time_ms,
        )


def _scan(models: Path) -> dict[str, dict[int, ModelVersion]]:
    try:
        names = sorted(entry.name for entry in models.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        problem = "there is no such folder" if missing else f"it can't be read: {error.strerror}"
        raise SettingsError(
            f"{variable('models')} = {str(models)!r}: {problem}",
            expected="a folder with NAME/VERSION/ in it, as training publishes them",
            remedy="start in the project's folder, or give the folder's path",
        ) from None
    found = {name: _scan_versions(models, name) for name in names}
    return {name: versions for name, versions in found.items() if versions}


def _scan_versions(models: Path, name: str) -> dict[int, ModelVersion]:
    try:
        versions = published_versions(models, name)
    except OSError as error:  # such as the lost+found of a volume
        logger.warning("%s can't be read and is passed over: %s", models / name, error.strerror)
        return {}
    return {version: ModelVersion(name, version, version_folder(models, name, version)) for version in versions}
