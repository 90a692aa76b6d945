"""Makes the loaded versions follow the models folder: load, swap, drain, unload, one version at a time.

It runs in one thread at a time, never in the event loop's. A new version answers only once it is ready, and an old one
is unloaded only once another answers instead. A version that fails changes only its own state.
"""

import logging
import threading
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from cifar10_serving.artifacts.rollout import Rollout
from cifar10_serving.errors import ProjectError, RolloutError
from cifar10_serving.schemas import FailedVersion, ReloadReport, VersionReference, VersionState
from service.errors import UnknownModelError, stopping
from service.registry.loading import CallsStoppedError, VersionLoader
from service.registry.models_folder import ModelFolder, ModelsFolder, with_failed
from service.registry.models_mirror import ModelsMirror
from service.registry.routing import ServedModel
from service.registry.version import FileSignature, ModelVersion

LOCK_POLL_S: Final = 0.1
"""Interval at which a waiting caller checks for a shutdown."""
NOTHING: Final = ModelFolder({}, ())

logger = logging.getLogger(__name__)


@dataclass
class _Changes:
    loaded: list[VersionReference] = field(default_factory=list)
    unloaded: list[VersionReference] = field(default_factory=list)
    failed: list[FailedVersion] = field(default_factory=list)


class Reconciler:
    """Keeps the models of a folder up to date.

    Args:
        folder: the models folder; scanned at once.
        mirror: what makes the folder follow a store, before each scan but the first; None for a plain folder.
        loader: loads and unloads versions.
        default_policy: the policy for models without one of their own.
        drain_limit_s: time limit for requests to finish before unloading, in seconds.
        on_change: called with the new state, and whether all of it is settled.

    Raises:
        SettingsError: the folder can't be read.
    """

    def __init__(
        self,
        folder: ModelsFolder,
        loader: VersionLoader,
        *,
        mirror: ModelsMirror | None = None,
        default_policy: str,
        drain_limit_s: float,
        on_change: Callable[[Mapping[str, ServedModel], bool], None],
    ) -> None:
        self._folder = folder
        self._loader = loader
        self._mirror = mirror
        self._default_policy = default_policy
        self._drain_limit_s = drain_limit_s
        self._on_change = on_change
        self._models: dict[str, ServedModel] = {}
        self._found: Mapping[str, ModelFolder] = {}
        self._folder_problems: list[str] = []
        self._settled = False
        self._stopped = False
        self._lock = threading.Lock()
        self._take_in(self._content(), _Changes(), retry=())
        self._publish()

    def stop(self) -> None:
        """Make the current and later calls of `refresh` return at once, without finishing their work; thread-safe."""
        self._stopped = True
        if self._mirror is not None:
            self._mirror.stop()
        self._folder.stop()
        self._loader.stop()

    def refresh(self, *, retry_failed: bool = False) -> ReloadReport:
        """Scan the folder, follow its changes, and return them.

        Args:
            retry_failed: also retry failed versions whose files are the same.
        """
        with self._exclusively():
            changes = _Changes()
            self._refresh_once(changes, retry_failed=retry_failed)
            while self._has_more and not self._stopped:
                self._refresh_once(changes)
            problems = [model.problem for model in self._models.values()]
            return ReloadReport(
                loaded=changes.loaded,
                unloaded=changes.unloaded,
                failed=changes.failed,
                problems=[problem for problem in (*self._folder_problems, *problems) if problem],
            )

    def _refresh_once(self, changes: _Changes, *, retry_failed: bool = False) -> None:
        found = self._scan(asked=retry_failed)
        if retry_failed or not self._settled or found != self._found or self._may_recover():
            self._take_in(found, changes, retry=found if retry_failed else ())
            self._follow(changes)

    @property
    def _has_more(self) -> bool:
        """True if the mirror has not seen all of the store yet."""
        return self._mirror is not None and self._mirror.has_more

    def load(self, name: str) -> None:
        """Load a model by its policy, checking for new versions and retrying failed ones."""
        self._change(name, is_unloaded=False)

    def unload(self, name: str) -> None:
        """Take a model out of service until `load`, even if versions are published; block until it is unloaded."""
        self._change(name, is_unloaded=True)

    def _change(self, name: str, *, is_unloaded: bool) -> None:
        with self._exclusively():
            self._take_in(self._scan(), _Changes(), retry=() if is_unloaded else (name,))
            model = self._models.get(name)
            if model is None:
                raise UnknownModelError(f"there is no model '{name[:100]}'", available=list(self._models), asked=name)
            self._models[name] = replace(model, is_unloaded=is_unloaded)
            self._follow(_Changes())

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        while not self._lock.acquire(timeout=LOCK_POLL_S):
            if self._stopped:
                raise stopping()
        try:
            yield
        except CallsStoppedError:
            raise stopping() from None
        finally:
            self._lock.release()

    def _may_recover(self) -> bool:
        entries = (entry for model in self._models.values() for entry in model.published.values())
        return any(self._loader.may_recover(entry) for entry in entries)

    def _scan(self, *, asked: bool = False) -> Mapping[str, ModelFolder]:
        """Return the content, or the last known one if the folder can't be read: a missing volume withdraws nothing."""
        problems: list[str] = []
        if self._mirror is not None:
            self._mirror.update(asked=asked)
            problems = self._mirror.problems
        try:
            found = self._content()
        except ProjectError as error:
            found = self._found
            problems.append(str(error))
        for problem in problems:
            if problem not in self._folder_problems:
                logger.error("keeping the loaded versions: %s", problem)
        if self._folder_problems and not problems:
            logger.info("the models can be read again")
        self._folder_problems = problems
        return found

    def _content(self) -> Mapping[str, ModelFolder]:
        found = self._folder.scan()
        return found if self._mirror is None else with_failed(found, self._mirror.failed())

    def _take_in(self, found: Mapping[str, ModelFolder], changes: _Changes, *, retry: Container[str]) -> None:
        for name in {**self._models, **found}:
            model, folder = self._models.get(name, ServedModel(name)), found.get(name, NOTHING)
            published = {
                version: self._entry(model, version, signature, retry_failed=name in retry)
                for version, signature in folder.versions.items()
            }
            for version, reason in folder.failed.items():
                if published[version].state is not VersionState.FAILED:
                    published[version].fail(reason)
                    _note_failure(published[version], changes)
            model = replace(model, published=published, tutorial=self._folder.read_tutorial(name))
            self._models[name] = self._with_rollout(model) if published else model
        self._found = found

    def _entry(self, model: ServedModel, version: int, signature: FileSignature, *, retry_failed: bool) -> ModelVersion:
        known = model.published.get(version)
        if known and known.signature == signature:
            retry = retry_failed or self._loader.may_recover(known)
            if not (retry and known.state is VersionState.FAILED):
                return known
        serving = model.serving.get(version)
        if serving and serving.signature == signature:  # published again, or restored
            return serving
        return ModelVersion(model.name, version, self._folder.path / model.name / str(version), signature)

    def _with_rollout(self, model: ServedModel) -> ServedModel:
        rollout, problem = _read_rollout(self._folder, model)
        if problem is not None and problem != model.problem:
            logger.error("keeping the previous rollout: %s", problem)
        if rollout != model.rollout:
            logger.info("%s: rollout is now %s", model.name, rollout.model_dump_json(exclude_defaults=True))
        return replace(model, rollout=rollout, problem=problem)

    def _follow(self, changes: _Changes) -> None:
        self._settled = False
        for model in self._models.values():
            for unread in model.published.values():
                if self._stopped:
                    break
                if unread.metadata is None and unread.state is not VersionState.FAILED:
                    self._loader.read_metadata(unread)
                    _note_failure(unread, changes)
        self._publish()
        self._unload_superseded(changes)
        while not self._stopped and (entry := self._next()) is not None:
            if self._loader.load(entry):
                self._swap_in(entry)
                changes.loaded.append(VersionReference(model=entry.name, version=entry.version))
            _note_failure(entry, changes)
            self._publish()
            self._unload_superseded(changes)
        self._settled = not self._stopped and not self._has_more
        self._publish()

    def _next(self) -> ModelVersion | None:
        """Return the version to load next: the newest of each model before older ones."""
        missing = [model.missing(self._default_policy) for model in self._models.values()]
        depth = max(map(len, missing), default=0)
        return next((entries[place] for place in range(depth) for entries in missing if len(entries) > place), None)

    def _swap_in(self, entry: ModelVersion) -> None:
        model = self._models[entry.name]
        replaced = model.serving.get(entry.version)
        self._models[entry.name] = replace(model, serving={**model.serving, entry.version: entry})
        self._publish()
        if replaced is not None:
            self._loader.unload(replaced, self._drain_limit_s)

    def _unload_superseded(self, changes: _Changes) -> None:
        leaving = [entry for model in self._models.values() for entry in model.superseded(self._default_policy)]
        for entry in leaving:
            model = self._models[entry.name]
            serving = {version: other for version, other in model.serving.items() if other is not entry}
            self._models[entry.name] = replace(model, serving=serving)
        gone = [name for name, model in self._models.items() if not model.published and not model.serving]
        for name in gone:
            del self._models[name]
        self._publish()
        for unused in leaving:
            self._loader.unload(unused, self._drain_limit_s)
            changes.unloaded.append(VersionReference(model=unused.name, version=unused.version))
            self._make_loadable_again(unused)
        if leaving:
            self._publish()

    def _make_loadable_again(self, entry: ModelVersion) -> None:
        model = self._models.get(entry.name)
        if model is not None and model.published.get(entry.version) is entry:
            fresh = ModelVersion(entry.name, entry.version, entry.folder, entry.signature)
            fresh.metadata = entry.metadata
            self._models[entry.name] = replace(model, published={**model.published, entry.version: fresh})

    def _publish(self) -> None:
        self._models = {name: model.with_rollout_in_force() for name, model in self._models.items()}
        for model in self._models.values():
            missing = set(model.missing(self._default_policy))
            for entry in model.published.values():
                if entry.state in (VersionState.PUBLISHED, VersionState.LOADING):
                    entry.state = VersionState.LOADING if entry in missing else VersionState.PUBLISHED
        self._on_change(dict(self._models), self._settled)


def _note_failure(entry: ModelVersion, changes: _Changes) -> None:
    if entry.state is VersionState.FAILED:
        failed = FailedVersion(model=entry.name, version=entry.version, reason=entry.reason or "unknown")
        changes.failed.append(failed)


def _read_rollout(folder: ModelsFolder, model: ServedModel) -> tuple[Rollout, str | None]:
    """Return the rollout to apply, and the problem if serving.json is invalid."""
    try:
        rollout = folder.read_rollout(model.name) or Rollout()
        rollout.check_published(model.name, model.published)
    except RolloutError as error:
        return model.rollout, str(error)
    return rollout, None
