"""The routes of the model repository extension, for the operator: there are none without the setting `admin_token`."""

from typing import Any

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field, SecretStr

from service.api.admin import authorization
from service.api.open_inference.repository import IndexEntry, load_model, repository_index, unload_model
from service.api.open_inference.routes import PREFIX, TAG, Model, error_responses
from service.core.repository import ModelRepository


class IndexRequest(BaseModel):
    """What the index is asked for."""

    ready: bool = Field(False, description="only what is ready")


class ChangeRequest(BaseModel):
    """What comes with loading or unloading; parameters that mean nothing here are passed over."""

    parameters: dict[str, Any] = Field(default_factory=dict)


def repository_routes(repository: ModelRepository, token: SecretStr) -> APIRouter:
    """The routes, changing this repository."""
    routes = APIRouter(
        prefix=f"{PREFIX}/repository",
        tags=[TAG],
        dependencies=[Depends(authorization(token))],
        responses=error_responses(401),
    )

    @routes.post("/index", summary="Every published version and its state")
    async def index(asked: IndexRequest | None = None) -> list[IndexEntry]:
        return repository_index(repository, only_ready=asked is not None and asked.ready)

    @routes.post(
        "/models/{model}/load",
        summary="Have a model serve again, trying what failed",
        responses=error_responses(400, 404, 503),
    )
    async def load(model: Model, asked: ChangeRequest | None = None) -> Response:
        await load_model(repository, model, asked.parameters if asked is not None else {})
        return Response()

    @routes.post(
        "/models/{model}/unload",
        summary="Take a model out of service until it is loaded again",
        responses=error_responses(404),
    )
    async def unload(model: Model, asked: ChangeRequest | None = None) -> Response:  # noqa: ARG001  # Triton's clients send parameters
        await unload_model(repository, model)
        return Response()

    return routes
