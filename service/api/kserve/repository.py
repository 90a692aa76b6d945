"""Triton's model repository extension: the index of published versions, loading and unloading, and their routes."""

import asyncio
from typing import Any, Final, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from cifar10_serving.schemas import ModelStatus, VersionState, VersionStatus
from service.api.kserve.routes import PREFIX, TAG, Model, error_responses
from service.api.operations import authorization
from service.api.tensors import truncated_repr
from service.errors import InvalidRequestError, UnsupportedCallError
from service.http.body import content_codings, decompress, raw_headers, read_stream, upload_timeout
from service.http.json_bodies import parse_json
from service.inference.pipeline import Pipeline
from service.process.sighup import is_worker
from service.registry.repository import ModelRepository
from service.settings import Settings

STATES: Final = {
    VersionState.READY: "READY",
    VersionState.LOADING: "LOADING",
    VersionState.DRAINING: "UNLOADING",
    VersionState.FAILED: "UNAVAILABLE",
    VersionState.PUBLISHED: "UNAVAILABLE",
}
OVERRIDES: Final = "config"
FILE_OVERRIDE: Final = "file:"
Document = TypeVar("Document", bound=BaseModel)
BODY: Final = "an object, or no body"


class IndexEntry(BaseModel):
    """A version in the index."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    state: str
    reason: str


def repository_index(repository: ModelRepository, *, only_ready: bool) -> list[IndexEntry]:
    """Return every published version with its state."""
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
    """Load a model by its policy, and retry its failed versions.

    Raises:
        UnsupportedCallError: the request has another configuration or other files.
        UnsupportedCallError: the service has several workers.
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
        UnsupportedCallError: the service has several workers.
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


class IndexRequest(BaseModel):
    """Request for the index."""

    ready: bool | None = Field(None, description="only ready versions")


class ChangeRequest(BaseModel):
    """Request to load or unload a model; unknown parameters are ignored."""

    parameters: dict[str, Any] | None = None


def repository_routes(
    repository: ModelRepository, pipeline: Pipeline, settings: Settings, token: SecretStr
) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(
        prefix=f"{PREFIX}/repository",
        tags=[TAG],
        dependencies=[Depends(authorization(token))],
        responses=error_responses(401, 400, 408, 413, 415, 503),
    )

    async def read(request: Request, kind: type[Document]) -> Document:
        try:
            headers = raw_headers(request.scope)
            codings = content_codings(headers)
            with pipeline.admit() as slot:
                async with asyncio.timeout(settings.upload_timeout_s):
                    body = await read_stream(headers, request.receive, slot, max_body_bytes=settings.max_body_bytes)
                body = await decompress(body, codings, slot, max_body_bytes=settings.max_body_bytes)
            document = parse_json(body or b"{}", expected=BODY)
            if not isinstance(document, dict):
                raise InvalidRequestError(f"the request is {truncated_repr(document)}", expected=BODY)
            return kind.model_validate(document)
        except TimeoutError:
            raise upload_timeout(settings.upload_timeout_s) from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the request"
            raise InvalidRequestError(f"{where}: {first['msg']}") from None

    @routes.post(
        "/index",
        summary="List the published versions and their states",
        openapi_extra=_declared(IndexRequest),
    )
    async def index(request: Request) -> list[IndexEntry]:
        asked = await read(request, IndexRequest)
        return repository_index(repository, only_ready=asked.ready is True)

    @routes.post(
        "/models/{model}/load",
        summary="Load a model again, and retry failed versions",
        responses=error_responses(404, 501),
        response_class=Response,
        openapi_extra=_declared(ChangeRequest),
    )
    async def load(request: Request, model: Model) -> Response:
        asked = await read(request, ChangeRequest)
        await load_model(repository, model, asked.parameters or {})
        return Response()

    @routes.post(
        "/models/{model}/unload",
        summary="Unload a model until it is loaded again",
        responses=error_responses(404, 501),
        response_class=Response,
        openapi_extra=_declared(ChangeRequest),
    )
    async def unload(request: Request, model: Model) -> Response:
        await read(request, ChangeRequest)
        await unload_model(repository, model)
        return Response()

    return routes


def _declared(kind: type[BaseModel]) -> dict[str, Any]:
    return {"requestBody": {"content": {"application/json": {"schema": kind.model_json_schema()}}}}
