"""The answers of `GET /models`: states of models and versions, and the stored accuracy."""

from collections.abc import Mapping
from datetime import datetime

from cifar10_serving.artifacts.metadata import Evaluation
from cifar10_serving.runtimes.base import Runtime
from cifar10_serving.schemas import ModelStatus, VersionState, VersionStatus
from service.registry.routing import Route, ServedModel, describe_policy
from service.registry.version import ModelVersion


def in_order(models: Mapping[str, ServedModel]) -> tuple[str, ...]:
    """Return the names in the order of first publication; models without readable metadata come last."""

    def place(name: str) -> tuple[datetime, str]:
        return models[name].first_published() or datetime.max, name  # noqa: DTZ901  # never told, compared alone

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
        input_shape=list(metadata.input_shape) if metadata else None,
        size_bytes=metadata.export.size_bytes if metadata else None,
        load_time_ms=entry.load_time_ms,
    )
