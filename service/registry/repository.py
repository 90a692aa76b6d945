"""The versions that this service knows, for whoever asks: which one answers a request, and how each one stands.

Requests read an immutable snapshot from the event loop, a few dictionary reads each; one thread at a time makes a
new one and swaps it whole. What is loaded when is `service.registry.reconciler`'s part, looking for changes
`service.registry.watcher`'s.
"""

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from cifar10_serving.runtimes.base import Runtime
from cifar10_serving.schemas import ModelList, ModelStatus, Readiness, ReloadReport
from cifar10_serving.text import did_you_mean
from service.errors import SettingsError, UnavailableError
from service.registry.loading import DEFAULT_LOAD_LIMIT_S, VersionLoader
from service.registry.model_status import in_order, model_status, stored_evaluation
from service.registry.models_folder import ModelsFolder
from service.registry.reconciler import Reconciler
from service.registry.routing import Route, ServedModel
from service.registry.snapshot import RETRY_AFTER_FAILURE_S, RETRY_WHILE_LOADING_S, Snapshot
from service.registry.version import ModelVersion

__all__ = ["RETRY_AFTER_FAILURE_S", "RETRY_WHILE_LOADING_S", "ModelRepository", "ModelVersion"]

AUTO: Final = "auto"
DEFAULT_POLICY: Final = "latest(1)"
DEFAULT_DRAIN_LIMIT_S: Final = 20.0


class ModelRepository:
    """Every version below a models folder; those that should serve, loaded by one runtime.

    Args:
        models: the folder that holds NAME/VERSION/.
        runtime: loads the versions and computes with them.
        default_model: answers where no model is asked for; `auto`: the ready one with the best test accuracy.
        version_policy: `latest(N)` or `all`, for models whose serving.json has no policy.
        drain_limit_s: longest time that unloading waits for requests, in seconds.
        load_limit_s: the longest time that the runtime may take to load and try a version, in seconds.
        seed: of the draws that share requests out; None for one of its own.

    Raises:
        SettingsError: the folder can't be read, or no version of the default model is published.
    """

    def __init__(
        self,
        models: Path,
        runtime: Runtime,
        default_model: str = AUTO,
        *,
        version_policy: str = DEFAULT_POLICY,
        drain_limit_s: float = DEFAULT_DRAIN_LIMIT_S,
        load_limit_s: float = DEFAULT_LOAD_LIMIT_S,
        seed: int | None = None,
    ) -> None:
        self.runtime = runtime
        self._folder = str(models)
        self._default_model = default_model
        self._random = random.Random(seed)  # noqa: S311  # shares requests out, guards nothing
        self._readiness_checks: list[Callable[[], str | None]] = []
        self.has_shadows = False
        """True while a model has a shadow version; see `shadow_of`."""
        self._snapshot = Snapshot({}, (), {}, None, loaded=False, default_policy=version_policy, generation=0)
        self._reconciler = Reconciler(
            ModelsFolder(models),
            VersionLoader(models, runtime, load_limit_s=load_limit_s),
            default_policy=version_policy,
            drain_limit_s=drain_limit_s,
            on_change=self._swap,
        )
        published = self._snapshot.models
        if default_model != AUTO and default_model not in published:
            raise SettingsError(
                f"default model '{default_model}' has no published version{did_you_mean(default_model, published)}",
                expected=f"auto, or one of {', '.join(published)}" if published else "auto",
                remedy="change the setting default_model, or publish a version",
            )

    def load_all(self) -> None:
        """Load what should serve, the newest of each model first; returns when each is ready or failed, or to stop."""
        with suppress(UnavailableError):
            self._reconciler.refresh()

    def refresh(self, *, retry_failed: bool = False) -> ReloadReport:
        """Follow what has changed in the models folder since; blocks until all of it is loaded and unloaded.

        Args:
            retry_failed: load versions again that failed, even if their files are the same.

        Raises:
            UnavailableError: the service is stopping.
        """
        return self._reconciler.refresh(retry_failed=retry_failed)

    def load(self, name: str) -> None:
        """Have a model serve by its policy again, trying what failed; blocks until that is settled.

        Raises:
            UnknownModelError: there is no such model.
            UnavailableError: none of its versions could be loaded.
        """
        self._reconciler.load(name)
        self._snapshot.find(name, None, self._random)

    def unload(self, name: str) -> None:
        """Take a model out of service until `load` or a restart; blocks until its versions are unloaded.

        Raises:
            UnknownModelError: there is no such model.
        """
        self._reconciler.unload(name)

    def stop_loading(self) -> None:
        """Have `load_all` and `refresh` return at once, giving up what they load; from any thread."""
        self._reconciler.stop()

    @property
    def is_loaded(self) -> bool:
        """Whether the loading at start is over."""
        return self._snapshot.loaded

    @property
    def generation(self) -> int:
        """Grows at every change of what `status` and `find` say, the counts of shadows aside."""
        return self._snapshot.generation

    @property
    def not_ready_reason(self) -> str | None:
        """Why requests should not be sent here: see `add_readiness_check`; else why none is answered; None: ready."""
        failed = (reason for check in self._readiness_checks if (reason := check()) is not None)
        return next(failed, None) or self._snapshot.not_ready_reason(self._folder)

    def add_readiness_check(self, check: Callable[[], str | None]) -> None:
        """Have the service not ready while this names a reason; it is called often, from the event loop."""
        self._readiness_checks.append(check)

    @property
    def retry_after_s(self) -> int:
        """When it makes sense to ask again, while not ready."""
        return self._snapshot.retry_after_s

    def find(self, name: str | None = None, version: int | str | None = None) -> ModelVersion:
        """The ready version that a request means; to compute with it, `acquire` it.

        Args:
            name: None for the default model.
            version: a number or a label; None for the one that answers where none is asked for.

        Raises:
            UnknownModelError: there is no such model or version, or the version is not chosen to serve.
            UnavailableError: it is not ready, or nothing is yet.
        """
        return self._snapshot.find(name, version, self._random)

    def acquire(self, name: str | None = None, version: int | str | None = None) -> ModelVersion:
        """The version that `find` gives, which stays loaded until its `release` is called.

        Raises:
            RequestError: as `find` does.
        """
        chosen = self._snapshot.find(name, version, self._random)
        while not chosen.acquire():  # swapped out since it was found: by now the snapshot has another
            chosen = self._snapshot.find(name, version, self._random)
        return chosen

    def shadow_of(self, name: str) -> ModelVersion | None:
        """The version that computes on the side what others of this model answer."""
        route = self._snapshot.routes.get(name)
        return route.shadow if route is not None else None

    def get(self, name: str, version: int) -> ModelVersion:
        """A version in whatever state it is.

        Raises:
            UnknownModelError: there is no such model or version.
        """
        return self._snapshot.get(name, version)

    def answering_versions(self, name: str) -> list[int]:
        """The numbers of a model's versions that answer now, ascending.

        Raises:
            UnknownModelError: there is no such model.
        """
        snapshot = self._snapshot
        snapshot.model(name)
        return sorted(known for known in snapshot.routes[name].by_version if isinstance(known, int))

    def default_name(self) -> str | None:
        """The model that answers where none is asked for: the one set, or the best that is ready; else None."""
        return self._snapshot.default_name

    def readiness(self) -> Readiness:
        """Whether requests are answered, and the state of each model."""
        snapshot = self._snapshot
        reason = self.not_ready_reason
        states = {name: snapshot.models[name].state(snapshot.routes[name]) for name in snapshot.names}
        return Readiness(ready=reason is None, reason=reason, models=states)

    def status(self) -> ModelList:
        """Every model with every version, in the order in which the models were first published."""
        snapshot = self._snapshot
        return ModelList(
            models=[self._model_status(snapshot, name) for name in snapshot.names],
            default_model=snapshot.default_name,
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
        default = self._best(routes) if self._default_model == AUTO else self._default_model
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

    def _best(self, routes: Mapping[str, Route]) -> str | None:
        def accuracy(name: str) -> float:
            version = routes[name].default
            evaluation = stored_evaluation(version, self.runtime) if version is not None else None
            return evaluation.accuracy if evaluation is not None else 0.0

        return max((name for name in sorted(routes) if routes[name].default is not None), key=accuracy, default=None)
