"""The state of all models at one moment: finds the version that answers a request, or says why there is none.

A snapshot is immutable; `service.registry.repository` replaces it at each change.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cifar10_serving.schemas import VersionState
from service.errors import RequestError, UnavailableError, UnknownModelError
from service.registry.routing import Route, ServedModel, describe_policy
from service.registry.version import ModelVersion

RETRY_WHILE_LOADING_S: Final = 2
RETRY_AFTER_FAILURE_S: Final = 60


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of all models.

    Args:
        models: models by name.
        names: names of all models, in the order in which they are listed.
        routes: routes by name.
        default_name: the default model: the best one that is ready so far, or the configured one, ready or not; None if
            none is ready.
        loaded: whether the initial loading is finished.
        default_policy: the policy for models without one of their own.
        generation: the number of this snapshot.
    """

    models: Mapping[str, ServedModel]
    names: tuple[str, ...]
    routes: Mapping[str, Route]
    default_name: str | None
    loaded: bool
    default_policy: str
    generation: int

    def find(self, name: str | None, version: int | str | None, source: random.Random) -> ModelVersion:
        """Find a version; see `service.registry.repository.ModelRepository.find`."""
        if name is None:
            name = self.default_name
        route = self.routes.get(name) if name is not None else None
        chosen = None
        if route is not None:
            is_plain = version is None and route.split is None  # like most requests
            chosen = route.default if is_plain else route.choose(version, source)
        if chosen is None:
            raise self._why_not(name, version)
        return chosen

    def model(self, name: str) -> ServedModel:
        """Return a model.

        Raises:
            UnknownModelError: there is no such model.
        """
        if name not in self.models:
            raise UnknownModelError(f"there is no model '{name[:100]}'", available=list(self.models), asked=name)
        return self.models[name]

    def get(self, name: str, version: int) -> ModelVersion:
        """Return a version in any state.

        Raises:
            UnknownModelError: there is no such model or version.
        """
        model = self.model(name)
        entry = model.published.get(version) or model.serving.get(version)
        if entry is None:
            known = sorted({*model.published, *model.serving})
            raise UnknownModelError(f"{name} has no version {version}", available=[str(number) for number in known])
        return entry

    def not_ready_reason(self, folder: str) -> str | None:
        """Return why nothing can be answered yet; None once loading is finished and at least one version is ready."""
        if not self.loaded:
            return "models are being loaded"
        if not self.models:
            return f"there is no published version in {folder}"
        if all(route.default is None for route in self.routes.values()):
            return "no published version could be loaded; see GET /models"
        return None

    @property
    def retry_after_s(self) -> int:
        """The time to wait before a retry, while not ready."""
        return RETRY_AFTER_FAILURE_S if self.loaded else RETRY_WHILE_LOADING_S

    def _why_not(self, name: str | None, version: int | str | None) -> RequestError:
        if name is None:
            reason = self.not_ready_reason("the models folder")
            return UnavailableError(f"no model is ready: {reason}", retry_after_s=self.retry_after_s)
        model = self.model(name)
        answering = self.routes[name].by_version
        served = [str(known) for known in sorted(answering, key=lambda known: (isinstance(known, str), known))]
        if isinstance(version, str):
            if version not in model.rollout.labels:
                problem = f"{name} has no version labelled '{version[:100]}'"
                return UnknownModelError(problem, available=served, asked=version)
            version = model.rollout.labels[version]
        if version is None:
            entry = max(model.published.values(), key=_likeliest, default=None)
        else:
            entry = model.published.get(version)
        if entry is None:
            return UnknownModelError(f"{name} has no version {version}", available=served)
        if entry.state is VersionState.FAILED:
            return UnavailableError(
                f"{entry} could not be loaded: {entry.reason}",
                retry_after_s=RETRY_AFTER_FAILURE_S,
                remedy="request another model or version; GET /models lists the ready ones",
            )
        if entry.state in (VersionState.PUBLISHED, VersionState.DRAINING):
            policy = describe_policy(model.rollout, self.default_policy)
            why = "it was unloaded by the operator" if model.is_unloaded else f"the policy {policy} doesn't select it"
            return UnknownModelError(f"{entry} is published but not served: {why}", available=served)
        return UnavailableError(f"{entry} is being loaded", retry_after_s=RETRY_WHILE_LOADING_S)


def _likeliest(entry: ModelVersion) -> tuple[bool, bool, int]:
    """Return a sort key: the version that best explains why a model doesn't answer comes first."""
    return entry.state is VersionState.LOADING, entry.state is VersionState.FAILED, entry.version
