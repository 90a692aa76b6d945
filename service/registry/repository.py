"""The repository of versions: which one answers a request, and the state of each.

Requests read an immutable snapshot of all models from the event loop, with a few dictionary lookups each; one thread at
a time builds a new snapshot and swaps it. `service.registry.reconciler` decides what is loaded;
`service.registry.watcher` checks for changes.
"""

import random
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cifar10_serving.artifacts.metadata import Precision
from cifar10_serving.runtimes.base import Runtime
from cifar10_serving.schemas import (
    InstanceModel,
    ModelList,
    ModelStatus,
    Readiness,
    ReloadReport,
    StoreStatus,
    VersionState,
)
from cifar10_serving.text import did_you_mean
from service.errors import RequestError, SettingsError, UnavailableError, UnknownModelError
from service.registry.loading import DEFAULT_LOAD_LIMIT_S, VersionLoader
from service.registry.models_folder import ModelsFolder
from service.registry.models_mirror import ModelsMirror
from service.registry.reconciler import Reconciler
from service.registry.routing import (
    Route,
    ServedModel,
    describe_policy,
    in_order,
    instance_model,
    model_status,
    stored_evaluation,
)
from service.registry.version import ModelVersion

__all__ = ["RETRY_AFTER_FAILURE_S", "RETRY_WHILE_LOADING_S", "ModelRepository", "ModelVersion"]

RETRY_WHILE_LOADING_S: Final = 2
RETRY_AFTER_FAILURE_S: Final = 60
AUTO: Final = "auto"
DEFAULT_POLICY: Final = "latest(1)"
DEFAULT_DRAIN_LIMIT_S: Final = 20.0


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
            reason = self.not_ready_reason("the models folder") or "none of those with the default labels can answer"
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


class ModelRepository:
    """Every version in a models folder; the selected ones are loaded by one runtime.

    Args:
        models: the folder that contains NAME/VERSION/.
        mirror: what makes the folder follow a store; None for a plain folder.
        runtime: loads the versions and computes with them.
        default_model: the model for requests that name none; `auto`: the ready one with the best test accuracy among
            those with `default_labels`.
        default_labels: the labels, in any order; if no published model has these, `auto` considers all models.
        version_policy: `latest(N)` or `all`, for models whose serving.json has no policy.
        drain_limit_s: time limit for requests to finish before unloading, in seconds.
        load_limit_s: time limit for the runtime to load and check a version, in seconds.
        max_accuracy_drop: maximum loss of stored test accuracy, compared with float32, for a faster precision.
        seed: seed of the random traffic split; None for a random one.

    Raises:
        SettingsError: the folder can't be read, or the default model has no published version. A store is not asked
            for it yet.
    """

    def __init__(
        self,
        models: Path,
        runtime: Runtime,
        default_model: str = AUTO,
        *,
        default_labels: AbstractSet[str] = frozenset(),
        version_policy: str = DEFAULT_POLICY,
        drain_limit_s: float = DEFAULT_DRAIN_LIMIT_S,
        load_limit_s: float = DEFAULT_LOAD_LIMIT_S,
        max_accuracy_drop: float = 0.0,
        seed: int | None = None,
        mirror: ModelsMirror | None = None,
    ) -> None:
        self.runtime = runtime
        self.mirror = mirror
        self._folder = str(models if mirror is None else mirror.address)
        self._default_model = default_model
        self._default_labels = frozenset(default_labels)
        self._random = random.Random(seed)  # noqa: S311  # shares requests out, guards nothing
        self._readiness_checks: list[Callable[[], str | None]] = []
        self.has_shadows = False
        """True while a model has a shadow version; see `shadow_of`."""
        self._snapshot = Snapshot({}, (), {}, None, loaded=False, default_policy=version_policy, generation=0)
        self._reconciler = Reconciler(
            ModelsFolder(models),
            VersionLoader(models, runtime, max_accuracy_drop=max_accuracy_drop, load_limit_s=load_limit_s),
            mirror=mirror,
            default_policy=version_policy,
            drain_limit_s=drain_limit_s,
            on_change=self._swap,
        )
        published = self._snapshot.models
        if default_model != AUTO and default_model not in published and mirror is None:
            raise SettingsError(
                f"default model '{default_model}' has no published version{did_you_mean(default_model, published)}",
                expected=f"auto, or one of {', '.join(published)}" if published else "auto",
                remedy="change the setting default_model, or publish a version",
            )

    def load_all(self) -> None:
        """Load the selected versions, the newest of each model first; return when all are settled, or on a stop."""
        with suppress(UnavailableError):
            self._reconciler.refresh()

    def refresh(self, *, retry_failed: bool = False) -> ReloadReport:
        """Follow changes in the models folder; block until everything is loaded and unloaded.

        Args:
            retry_failed: also retry failed versions whose files are the same.

        Raises:
            UnavailableError: the service is stopping.
        """
        return self._reconciler.refresh(retry_failed=retry_failed)

    def load(self, name: str) -> None:
        """Load a model by its policy again, retrying failed versions; block until that is settled.

        Raises:
            UnknownModelError: there is no such model.
            UnavailableError: none of its versions could be loaded.
        """
        self._reconciler.load(name)
        self._snapshot.find(name, None, self._random)

    def unload(self, name: str) -> None:
        """Take a model out of service until `load` or a restart; block until its versions are unloaded.

        Raises:
            UnknownModelError: there is no such model.
        """
        self._reconciler.unload(name)

    def stop_loading(self) -> None:
        """Make `load_all` and `refresh` return at once, without finishing their work; thread-safe."""
        self._reconciler.stop()

    @property
    def is_loaded(self) -> bool:
        """True if the initial loading is finished."""
        return self._snapshot.loaded

    @property
    def generation(self) -> int:
        """A number that grows with every change of `status` and `find`, except for the counts of shadows."""
        return self._snapshot.generation

    @property
    def not_ready_reason(self) -> str | None:
        """The reason for not being ready: from a readiness check, or because nothing can be answered; None: ready."""
        failed = (reason for check in self._readiness_checks if (reason := check()) is not None)
        return next(failed, None) or self._snapshot.not_ready_reason(self._place)

    @property
    def _place(self) -> str:
        """The folder or store for a reason, with what is wrong with a store."""
        problem = self.mirror.problem if self.mirror is not None else None
        return self._folder if problem is None else f"{self._folder} ({problem})"

    def add_readiness_check(self, check: Callable[[], str | None]) -> None:
        """Add a check that returns a reason for not being ready; it is called often, from the event loop."""
        self._readiness_checks.append(check)

    @property
    def retry_after_s(self) -> int:
        """The time to wait before a retry, while not ready."""
        return self._snapshot.retry_after_s

    def find(self, name: str | None = None, version: int | str | None = None) -> ModelVersion:
        """Return the ready version that a request selects; to compute with it, use `acquire`.

        Args:
            name: name of the model; None for the default model.
            version: number or label of the version; None for the serving version.

        Raises:
            UnknownModelError: there is no such model or version, or the version is not selected to serve.
            UnavailableError: it is not ready, or nothing is ready yet.
        """
        return self._snapshot.find(name, version, self._random)

    def acquire(self, name: str | None = None, version: int | str | None = None) -> ModelVersion:
        """Return the version that `find` returns, and keep it loaded until its `release` is called.

        Raises:
            RequestError: as for `find`.
        """
        chosen = self._snapshot.find(name, version, self._random)
        while not chosen.acquire():  # replaced since it was found: the new snapshot has another
            chosen = self._snapshot.find(name, version, self._random)
        return chosen

    def shadow_of(self, name: str) -> ModelVersion | None:
        """Return the version that runs as a shadow of this model."""
        route = self._snapshot.routes.get(name)
        return route.shadow if route is not None else None

    def get(self, name: str, version: int) -> ModelVersion:
        """Return a version in any state.

        Raises:
            UnknownModelError: there is no such model or version.
        """
        return self._snapshot.get(name, version)

    def answering_versions(self, name: str) -> list[int]:
        """Return the numbers of a model's serving versions, ascending.

        Raises:
            UnknownModelError: there is no such model.
        """
        snapshot = self._snapshot
        snapshot.model(name)
        return sorted(known for known in snapshot.routes[name].by_version if isinstance(known, int))

    def default_name(self) -> str | None:
        """Return the default model: the configured one, or the best one that is ready; None if there is none."""
        return self._snapshot.default_name

    def readiness(self) -> Readiness:
        """Return whether requests are answered, and the state of each model."""
        snapshot = self._snapshot
        reason = self.not_ready_reason
        states = {name: snapshot.models[name].state(snapshot.routes[name]) for name in snapshot.names}
        return Readiness(ready=reason is None, reason=reason, models=states)

    def status(self) -> ModelList:
        """Return every model with every version, in the order in which the models were first published."""
        snapshot = self._snapshot
        return ModelList(
            models=[self._model_status(snapshot, name) for name in snapshot.names],
            default_model=snapshot.default_name,
            runtime=self.runtime.name,
            runtime_version=self.runtime.version,
            device=self.runtime.device,
            precision=self._default_precision(snapshot),
        )

    def _default_precision(self, snapshot: Snapshot) -> Precision:
        route = snapshot.routes.get(snapshot.default_name) if snapshot.default_name is not None else None
        version = route.default if route is not None else None
        return (version.precision if version is not None else None) or self.runtime.precision

    def on_this_instance(self) -> dict[str, InstanceModel]:
        """Return the versions and the rollout of each model, for a comparison with other processes."""
        snapshot = self._snapshot
        return {name: instance_model(snapshot.models[name]) for name in snapshot.names}

    def store_status(self) -> StoreStatus | None:
        """Return whether the store answers; None if the models are a plain folder."""
        mirror = self.mirror
        if mirror is None:
            return None
        answered_s = mirror.last_success_s
        return StoreStatus(
            address=str(mirror.address),
            problem=mirror.problem,
            answered_ago_s=None if answered_s is None else max(0.0, time.time() - answered_s),
        )

    def model_status(self, name: str) -> ModelStatus:
        """Return the status of one model with every version, the newest first.

        Raises:
            UnknownModelError: there is no such model.
        """
        snapshot = self._snapshot
        snapshot.model(name)
        return self._model_status(snapshot, name)

    def _model_status(self, snapshot: Snapshot, name: str) -> ModelStatus:
        return model_status(
            snapshot.models[name],
            snapshot.routes[name],
            self.runtime,
            default=name == snapshot.default_name,
            policy=snapshot.default_policy,
        )

    def _swap(self, models: Mapping[str, ServedModel], loaded: bool) -> None:
        routes = {name: model.route() for name, model in models.items()}
        default = self._best(models, routes) if self._default_model == AUTO else self._default_model
        before = self._snapshot
        self.has_shadows = any(route.shadow is not None for route in routes.values())
        self._snapshot = Snapshot(
            models,
            in_order(models),
            routes,
            default,
            loaded=loaded or before.loaded,
            default_policy=before.default_policy,
            generation=before.generation + 1,
        )

    def _best(self, models: Mapping[str, ServedModel], routes: Mapping[str, Route]) -> str | None:
        """Return the ready model with the best test accuracy; a model that was not measured comes last."""

        def accuracy(name: str) -> float:
            version = routes[name].default
            evaluation = stored_evaluation(version, self.runtime) if version is not None else None
            return evaluation.accuracy if evaluation is not None else -1.0

        ready = {name: version for name in sorted(routes) if (version := routes[name].default) is not None}
        # While they are being loaded, or if they fail, a model with other labels must not answer instead.
        if self._default_labels and any(model.knows(self._default_labels) for model in models.values()):
            ready = {name: version for name, version in ready.items() if version.label_set == self._default_labels}
        return max(ready, key=accuracy, default=None)
