"""Triton's extensions: the model repository, statistics, configuration, and calls that this server doesn't support.

Each unsupported call is rejected with a text, over REST and gRPC. REST answers 501 and gRPC UNIMPLEMENTED, as Triton
does for TRITONSERVER_ERROR_UNSUPPORTED: https://docs.nvidia.com/deeplearning/triton-inference-server, "HTTP/REST and
GRPC Protocol".
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from cifar10_serving.schemas import ModelStatus, VersionState, VersionStatus
from service.api.kserve.routes import PREFIX, TAG, Model, Version, error_responses
from service.api.kserve.views import StatisticsReport, model_configuration, statistics_report
from service.api.operations import authorization
from service.api.tensors import parse_json, truncated_repr
from service.errors import InvalidRequestError, UnsupportedCallError
from service.http.body import content_codings, decompress, read_stream, upload_timeout
from service.http.exchange import raw_headers
from service.inference.pipeline import Pipeline
from service.process.lifecycle import Group
from service.registry.repository import ModelRepository
from service.settings import Settings, variable
from service.telemetry.reports import Telemetry

STATES: Final = {
    VersionState.READY: "READY",
    VersionState.LOADING: "LOADING",
    VersionState.DRAINING: "UNLOADING",
    VersionState.FAILED: "UNAVAILABLE",
    VersionState.PUBLISHED: "UNAVAILABLE",
}
OVERRIDES: Final = "config"
FILE_OVERRIDE: Final = "file:"
SEVERAL: Final = {Group.WORKERS: ("workers", "worker"), Group.REPLICAS: ("instances", "instance")}
"""The words for the processes of a group."""
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


async def load_model(repository: ModelRepository, name: str, parameters: dict[str, Any], group: Group) -> None:
    """Load a model by its policy, and retry its failed versions.

    Raises:
        UnsupportedCallError: the request has another configuration or other files.
        UnsupportedCallError: this process is not alone.
        RequestError: there is no such model, or none of its versions can be loaded.
    """
    foreign = [key for key in parameters if key == OVERRIDES or key.startswith(FILE_OVERRIDE)]
    if foreign:
        raise UnsupportedCallError(
            f"the parameter {foreign[0][:100]!r} would change a published version",
            expected="a request without this parameter",
            remedy="publish a new version in the models folder, or write its serving.json",
        )
    _check_alone(group)
    await asyncio.to_thread(repository.load, name)


async def unload_model(repository: ModelRepository, name: str, group: Group) -> None:
    """Unload a model; its versions stay published.

    Raises:
        UnsupportedCallError: this process is not alone.
        UnknownModelError: there is no such model.
    """
    _check_alone(group)
    await asyncio.to_thread(repository.unload, name)


def _check_alone(group: Group) -> None:
    if group is not Group.ALONE:
        several, one = SEVERAL[group]
        raise UnsupportedCallError(
            f"the service has several {several}, and the change would affect only one of them",
            expected=f"a service with one {one}",
            remedy=f"write the model's serving.json, which all {several} follow: docs/versions.md",
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
    repository: ModelRepository, pipeline: Pipeline, settings: Settings, token: SecretStr, group: Group
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
        await load_model(repository, model, asked.parameters or {}, group)
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
        await unload_model(repository, model, group)
        return Response()

    return routes


def _declared(kind: type[BaseModel]) -> dict[str, Any]:
    return {"requestBody": {"content": {"application/json": {"schema": kind.model_json_schema()}}}}


@dataclass(frozen=True, slots=True)
class UnsupportedExtension:
    """An unsupported extension, its calls, and the reason.

    Args:
        paths: paths below `/v2`.
        methods: methods of the gRPC service.
    """

    name: str
    paths: tuple[str, ...]
    methods: tuple[str, ...]
    remedy: str

    def error(self) -> UnsupportedCallError:
        """Return the error for its calls."""
        return UnsupportedCallError(f"this server doesn't support {self.name}", remedy=self.remedy)


def _shared_memory(kind: str) -> UnsupportedExtension:
    path = f"/{kind.lower()}sharedmemory"
    return UnsupportedExtension(
        f"{kind} shared memory",
        (f"{path}/status", f"{path}/unregister", f"{path}/region/{{region}}/{{call}}"),
        tuple(f"{kind.capitalize()}SharedMemory{call}" for call in ("Status", "Register", "Unregister")),
        "send tensors in the request: an image has 3,072 bytes",
    )


UNSUPPORTED: Final = (
    _shared_memory("system"),
    _shared_memory("CUDA"),
    UnsupportedExtension(
        "trace settings",
        ("/trace/setting", "/models/{model}/trace/setting"),
        ("TraceSetting",),
        "each request's times are in the service's log, under its X-Request-ID, and in /metrics",
    ),
    UnsupportedExtension(
        "log settings",
        ("/logging",),
        ("LogSettings",),
        f"set {variable('log_level')} and {variable('access_log_sample_rate')}, and restart the service",
    ),
    UnsupportedExtension(
        "the generate extension",
        tuple(
            f"/models/{{model}}{version}/{call}"
            for version in ("", "/versions/{version}")
            for call in ("generate", "generate_stream")
        ),
        (),
        "use /infer: the models only classify images",
    ),
)
MODEL_REPOSITORY: Final = UnsupportedExtension(
    f"the model repository extension while {variable('admin_token')} is not set",
    ("/repository/index", "/repository/models/{model}/load", "/repository/models/{model}/unload"),
    ("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
    "set it, and send it as 'Authorization: Bearer TOKEN'",
)


def unsupported_extensions(*, with_repository: bool) -> tuple[UnsupportedExtension, ...]:
    """Return the unsupported extensions, which depend on whether the repository extension is enabled."""
    return UNSUPPORTED if with_repository else (*UNSUPPORTED, MODEL_REPOSITORY)


def extension_routes(repository: ModelRepository, telemetry: Telemetry, settings: Settings) -> APIRouter:
    """Return the routes; include them before those of models."""
    routes = APIRouter(prefix=PREFIX, tags=[TAG])

    @routes.get("/models/stats", summary="Statistics of all serving versions", responses=error_responses(501))
    async def all_statistics() -> StatisticsReport:
        """Return the counts since the start of the service; use /metrics for monitoring."""
        return statistics_report(repository, telemetry)

    @routes.get(
        "/models/{model}/stats", summary="Statistics of a model's versions", responses=error_responses(404, 501)
    )
    async def statistics_of_model(model: Model) -> StatisticsReport:
        return statistics_report(repository, telemetry, model)

    @routes.get(
        "/models/{model}/versions/{version}/stats",
        summary="Statistics of a version",
        responses=error_responses(400, 404, 501, 503),
    )
    async def statistics_of_version(model: Model, version: Version) -> StatisticsReport:
        return statistics_report(repository, telemetry, model, version)

    @routes.get(
        "/models/{model}/config",
        summary="A model's configuration in Triton's format",
        responses=error_responses(404, 503),
    )
    async def configuration_of_model(model: Model) -> dict[str, Any]:
        return model_configuration(repository, settings, model, "")

    @routes.get(
        "/models/{model}/versions/{version}/config",
        summary="A version's configuration in Triton's format",
        responses=error_responses(400, 404, 503),
    )
    async def configuration_of_version(model: Model, version: Version) -> dict[str, Any]:
        return model_configuration(repository, settings, model, version)

    for extension in unsupported_extensions(with_repository=settings.admin_token is not None):
        for path in extension.paths:
            routes.add_api_route(path, _rejection(extension), methods=["GET", "POST"], include_in_schema=False)
    return routes


def _rejection(extension: UnsupportedExtension) -> Callable[[], Awaitable[None]]:
    async def reject() -> None:
        raise extension.error()

    return reject
