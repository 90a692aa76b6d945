"""The versions of one model: the choice of the one that answers, and their status for `GET /models`.

Policy, labels, traffic split and shadow make the choice.
"""

import random
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from cifar10_serving.artifacts.metadata import Evaluation
from cifar10_serving.artifacts.rollout import STABLE_LABEL, Rollout
from cifar10_serving.artifacts.tutorial import TutorialResult
from cifar10_serving.runtimes.base import Runtime
from cifar10_serving.schemas import InstanceModel, ModelStatus, VersionState, VersionStatus
from service.registry.version import ModelVersion

FIRST_LABELS: Final = 3


def wanted_versions(
    rollout: Rollout, default_policy: str, *, usable: AbstractSet[int], serving: AbstractSet[int]
) -> frozenset[int]:
    """Return the versions that should serve.

    `latest(N)` selects the newest usable versions, not counting the shadow; a version that fails is replaced by the
    next older one, also after a restart. While a version of an explicit list can't be used, the current versions stay.

    Args:
        rollout: the model's own policy, and the versions that it names.
        default_policy: `latest(N)` or `all`, if the rollout has no policy.
        usable: the published versions that did not fail to load.
        serving: the versions that serve now.
    """
    policy = rollout.policy or default_policy
    if policy == "all":
        return frozenset(usable)
    if isinstance(policy, str):
        count = int(policy.removeprefix("latest(").removesuffix(")"))
        newest_first = sorted((version for version in usable if version != rollout.shadow), reverse=True)
        return frozenset(newest_first[:count]) | (rollout.named & usable)
    chosen = frozenset(policy) & usable
    return chosen if len(chosen) == len(set(policy)) else chosen | (serving & usable)


def describe_policy(rollout: Rollout, default_policy: str) -> str:
    """Return the policy in the form of serving.json and the setting."""
    return str(rollout.policy or default_policy)


@dataclass(frozen=True, slots=True)
class Route:
    """The serving versions of one model.

    Args:
        by_version: by number and by label.
        default: the version for requests that name none; None if none is ready.
        split: the two versions that share these requests; the first one's share is `first_share`, 0 to 1.
        shadow: the shadow version.
    """

    by_version: Mapping[int | str, ModelVersion]
    default: ModelVersion | None
    split: tuple[ModelVersion, ModelVersion] | None
    first_share: float
    shadow: ModelVersion | None

    def choose(self, version: int | str | None, source: random.Random) -> ModelVersion | None:
        """Return the version that answers; None if it isn't ready."""
        if version is not None:
            return self.by_version.get(version)
        if self.split is None:
            return self.default
        return self.split[0] if source.random() < self.first_share else self.split[1]


def build_route(serving: Mapping[int, ModelVersion], rollout: Rollout) -> Route:
    """Return the route for these loaded versions.

    Without a split, the version labelled `stable` answers, otherwise the newest; the shadow only if it is the only
    version. If one version of a split isn't loaded, the other gets all requests.
    """
    labelled = {label: serving[version] for label, version in rollout.labels.items() if version in serving}
    sharing = [(serving[version], weight) for version, weight in (rollout.split or {}).items() if version in serving]
    newest_first = sorted(serving, key=lambda version: (version != rollout.shadow, version), reverse=True)
    newest = serving[newest_first[0]] if newest_first else None
    by_version: dict[int | str, ModelVersion] = dict(serving.items())
    by_version.update(labelled)
    default = max(sharing, key=lambda entry: entry[1])[0] if sharing else labelled.get(STABLE_LABEL, newest)
    split, first_share = None, 1.0
    if len(sharing) == 2:  # noqa: PLR2004
        (first, first_weight), (second, second_weight) = sharing
        split, first_share = (first, second), first_weight / (first_weight + second_weight)
    return Route(
        by_version=by_version,
        default=default,
        split=split,
        first_share=first_share,
        shadow=serving.get(rollout.shadow) if rollout.shadow is not None else None,
    )


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model's versions.

    Args:
        rollout: the rollout in serving.json, which decides what is loaded.
        in_force: the rollout that routes requests: `rollout` once all its versions are loaded, until then the previous
            one, so that no label, share or shadow lacks its version. None before the first one.
        problem: why serving.json is invalid.
        published: the versions in the folder.
        serving: the versions that are loaded and answer, including withdrawn ones that have no replacement yet.
        is_unloaded: whether the operator took the model out of service.
        tutorial: the result that the reproduced tutorial reports for this model.
    """

    name: str
    rollout: Rollout = field(default_factory=Rollout)
    in_force: Rollout | None = None
    problem: str | None = None
    published: Mapping[int, ModelVersion] = field(default_factory=dict)
    serving: Mapping[int, ModelVersion] = field(default_factory=dict)
    is_unloaded: bool = False
    tutorial: TutorialResult | None = None

    def route(self) -> Route:
        """Return the route for the serving versions."""
        return build_route(self.serving, self.in_force or self.rollout)

    def with_rollout_in_force(self) -> "ServedModel":
        """Return this model with its rollout in force, if all versions that it names serve."""
        if self.in_force != self.rollout and self.rollout.named <= self.serving.keys():
            return replace(self, in_force=self.rollout)
        return self

    def wanted(self, default_policy: str) -> frozenset[int]:
        """Return the published versions that should serve."""
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
        """Return the versions to load, the newest first."""
        wanted = sorted(self.wanted(default_policy), reverse=True)
        return [
            self.published[version]
            for version in wanted
            if self.serving.get(version) is not self.published[version]
            and self.published[version].state is not VersionState.FAILED
        ]

    def superseded(self, default_policy: str) -> list[ModelVersion]:
        """Return the versions to unload; none while a replacement is missing."""
        if self.missing(default_policy):
            return []
        wanted = self.wanted(default_policy)
        return [entry for version, entry in self.serving.items() if version not in wanted]

    def knows(self, labels: AbstractSet[str]) -> bool:
        """Return whether a version has exactly these labels, in any order, and the model is in service."""
        return not self.is_unloaded and any(entry.label_set == labels for entry in self.listed())

    def listed(self) -> list[ModelVersion]:
        """Return every version to list, the newest first."""
        entries = {**self.serving, **self.published}
        return [entries[version] for version in sorted(entries, reverse=True)]

    def title(self, route: Route) -> str:
        """Return the title of the serving version, or of the newest with metadata, or the name."""
        entries = [route.default, *self.listed()]
        return next((entry.metadata.title for entry in entries if entry and entry.metadata), self.name)

    def first_published(self) -> datetime | None:
        """Return when the oldest version was published; None if no metadata was read."""
        metadata = (entry.metadata for entry in self.listed())
        # Versions that others publish may have no time zone.
        return min((known.published_at.replace(tzinfo=None) for known in metadata if known), default=None)

    def state(self, route: Route) -> VersionState:
        """Return the state of the model: ready as soon as one version is."""
        if route.default is not None:
            return VersionState.READY
        states = {entry.state for entry in self.published.values()}
        order = (VersionState.LOADING, VersionState.FAILED, VersionState.PUBLISHED, VersionState.DRAINING)
        return next((state for state in order if state in states), VersionState.DRAINING)


def in_order(models: Mapping[str, ServedModel]) -> tuple[str, ...]:
    """Return the names in the order of first publication; models without readable metadata come last."""

    def place(name: str) -> tuple[datetime, str]:
        return models[name].first_published() or datetime.max, name  # noqa: DTZ901  # only compared

    return tuple(sorted(models, key=place))


def model_status(model: ServedModel, route: Route, runtime: Runtime, *, default: bool, policy: str) -> ModelStatus:
    """Return the status of one model with every version, the newest first.

    Args:
        policy: the setting `version_policy`, for a model without a policy of its own.
    """
    rollout, shadow = model.in_force or model.rollout, route.shadow
    return ModelStatus(
        name=model.name,
        title=model.title(route),
        state=model.state(route),
        default=default,
        serving_version=route.default.version if route.default else None,
        policy=describe_policy(rollout, policy),
        labels=rollout.labels,
        split=rollout.split,
        shadow=shadow.comparison.status(shadow.version) if shadow else None,
        problem=model.problem,
        tutorial=model.tutorial,
        versions=[_version_status(entry, model, runtime) for entry in model.listed()],
    )


def instance_model(model: ServedModel) -> InstanceModel:
    """Return what one process has of a model."""
    states = {version: entry.state for version, entry in sorted(model.published.items())}
    in_force = model.in_force
    return InstanceModel(
        ready=sorted(model.serving),
        loading=[version for version, state in states.items() if state is VersionState.LOADING],
        failed=[version for version, state in states.items() if state is VersionState.FAILED],
        rollout=in_force.generation if in_force is not None else None,
        next_rollout=model.rollout.generation if model.rollout != in_force else None,
        problem=model.problem,
    )


def stored_evaluation(entry: ModelVersion, runtime: Runtime) -> Evaluation | None:
    """Return the evaluation on the test set in the precision in which the version answers."""
    if entry.metadata is None:
        return None
    return entry.metadata.evaluation("test", entry.precision or runtime.precision, runtime.name)


def _version_status(entry: ModelVersion, model: ServedModel, runtime: Runtime) -> VersionStatus:
    evaluation, metadata = stored_evaluation(entry, runtime), entry.metadata
    reason = entry.reason
    if entry.state is VersionState.FAILED and entry.version in model.serving:
        reason = f"{reason} The previously loaded files keep serving."
    if model.is_unloaded and reason is None:
        reason = "The model was unloaded by the operator."
    return VersionStatus(
        version=entry.version,
        state=entry.state,
        reason=reason,
        recipe=str(metadata.recipe.get("name")) if metadata else None,
        precision=entry.precision,
        test_accuracy=evaluation.accuracy if evaluation else None,
        test_images=evaluation.n if evaluation else None,
        parameters=metadata.parameters.total if metadata else None,
        classes=metadata.class_count if metadata else None,
        label_set=entry.label_digest if metadata else None,
        first_labels=metadata.labels[:FIRST_LABELS] if metadata else None,
        input_shape=list(metadata.input_shape) if metadata else None,
        size_bytes=metadata.export.size_bytes if metadata else None,
        load_time_ms=entry.load_time_ms,
    )
