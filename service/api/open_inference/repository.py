"""The model repository extension, the same over REST and gRPC: what is there, and taking models in and out of service.

https://docs.nvidia.com/deeplearning/triton-inference-server, "Model Repository Extension"; states as MLServer has them.
"""

import asyncio
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from catalog.responses import ModelStatus, VersionState, VersionStatus
from service.core.repository import ModelRepository
from service.errors import UnsupportedCallError
from service.hangup import is_worker

STATES: Final = {
    VersionState.READY: "READY",
    VersionState.LOADING: "LOADING",
    VersionState.DRAINING: "UNLOADING",
    VersionState.FAILED: "UNAVAILABLE",
    VersionState.PUBLISHED: "UNAVAILABLE",
}
OVERRIDES: Final = "config"
FILE_OVERRIDE: Final = "file:"


class IndexEntry(BaseModel):
    """A version in the index."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    state: str
    reason: str


def repository_index(repository: ModelRepository, *, only_ready: bool) -> list[IndexEntry]:
    """Every published version with its state."""
    entries = [
        IndexEntry(
            name=model.name,
            version=str(version.version),
            state=STATES[version.state],
            reason=_reason(model, version),
        )
        for model in repository.status().models
        for version in model.versions
    ]
    return [entry for entry in entries if not only_ready or entry.state == STATES[VersionState.READY]]


async def load_model(repository: ModelRepository, name: str, parameters: dict[str, Any]) -> None:
    """Load a model by its policy, or again what failed of it.

    Raises:
        UnsupportedCallError: another configuration or other files are to be loaded than are published.
        UnsupportedCallError: there are several processes that serve.
        RequestError: there is no such model, or none of its versions can be loaded.
    """
    foreign = [key for key in parameters if key == OVERRIDES or key.startswith(FILE_OVERRIDE)]
    if foreign:
        raise UnsupportedCallError(
            f"the parameter {foreign[0][:100]!r} would change a published version",
            expected="a request without this parameter",
            remedy="publish a new version in the models folder, or write its serving.json",
        )
    _check_alone()
    await asyncio.to_thread(repository.load, name)


async def unload_model(repository: ModelRepository, name: str) -> None:
    """Unload a model; its versions stay published.

    Raises:
        UnsupportedCallError: there are several processes that serve.
        UnknownModelError: there is no such model.
    """
    _check_alone()
    await asyncio.to_thread(repository.unload, name)


def _check_alone() -> None:
    if is_worker():
        raise UnsupportedCallError(
            "the service has several workers, and the change would affect only one of them",
            expected="a service with one worker",
            remedy="write the model's serving.json, which all workers follow: docs/versions.md",
        )


def _reason(model: ModelStatus, version: VersionStatus) -> str:
    if version.reason is not None:
        return version.reason
    if version.state is VersionState.PUBLISHED:
        return f"the policy {model.policy} doesn't select it"
    return ""
