"""One model as it stands: what its folder holds, what is loaded, what should be; an immutable value.

`service.core.repository` makes a new one at each change; this module says what follows from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from catalog.responses import VersionState
from catalog.rollout import Rollout
from service.core.model_version import ModelVersion
from service.core.routing import Route, build_route
from service.core.version_policy import wanted_versions


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model's versions.

    Args:
        rollout: what serving.json asks for; decides what is loaded.
        in_force: what decides who answers: `rollout`, once all that it names is loaded; until then the one before, so
            that no label, share or shadow is without its version in between. None before there was any.
        problem: why serving.json is not what it must be.
        published: what the folder holds.
        serving: what is loaded and answers; also what was withdrawn or replaced, until something else answers.
        is_unloaded: whether the operator took it out of service, whatever its policy says.
    """

    name: str
    rollout: Rollout = field(default_factory=Rollout)
    in_force: Rollout | None = None
    problem: str | None = None
    published: Mapping[int, ModelVersion] = field(default_factory=dict)
    serving: Mapping[int, ModelVersion] = field(default_factory=dict)
    is_unloaded: bool = False

    def route(self) -> Route:
        """Which version answers."""
        return build_route(self.serving, self.in_force or self.rollout)

    def with_rollout_in_force(self) -> "ServedModel":
        """The same model, its rollout in force if all that it names serves."""
        if self.in_force != self.rollout and self.rollout.named <= self.serving.keys():
            return replace(self, in_force=self.rollout)
        return self

    def wanted(self, default_policy: str) -> frozenset[int]:
        """The published versions that should serve."""
        if self.is_unloaded:
            return frozenset()
        usable = {
            version
            for version, entry in self.published.items()
            if entry.state is not VersionState.FAILED or version in self.serving
        }
        still_named = self.in_force.named & self.serving.keys() if self.in_force is not None else frozenset()
        wanted = wanted_versions(self.rollout, default_policy, usable=usable, serving=self.serving.keys())
        return wanted | (still_named & usable)

    def missing(self, default_policy: str) -> list[ModelVersion]:
        """The versions to load, the newest first."""
        wanted = sorted(self.wanted(default_policy), reverse=True)
        return [
            self.published[version]
            for version in wanted
            if self.serving.get(version) is not self.published[version]
            and self.published[version].state is not VersionState.FAILED
        ]

    def superseded(self, default_policy: str) -> list[ModelVersion]:
        """The versions to unload; none while one is missing that should answer instead."""
        if self.missing(default_policy):
            return []
        wanted = self.wanted(default_policy)
        return [entry for version, entry in self.serving.items() if version not in wanted]

    def listed(self) -> list[ModelVersion]:
        """Every version that there is to tell of, the newest first."""
        entries = {**self.serving, **self.published}
        return [entries[version] for version in sorted(entries, reverse=True)]

    def state(self, route: Route) -> VersionState:
        """The state of the model: ready as soon as one version is."""
        if route.default is not None:
            return VersionState.READY
        states = {entry.state for entry in self.published.values()}
        order = (VersionState.LOADING, VersionState.FAILED, VersionState.PUBLISHED, VersionState.DRAINING)
        return next((state for state in order if state in states), VersionState.DRAINING)
