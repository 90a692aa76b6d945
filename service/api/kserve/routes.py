"""Routes of the Open Inference Protocol (V2 REST); `extensions` has those of Triton's extensions."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel

from cifar10_serving.artifacts.metadata import IMAGES, PROBABILITIES
from service.api.kserve.codec import (
    BINARY_TYPE,
    HEADER_LENGTH,
    JSON_TYPE,
    RAW_HEADER_LENGTH,
    RequestDocument,
    infer_answer,
    json_bytes,
    parse_infer_request,
    requested_version,
)
from service.api.kserve.views import (
    ModelDescription,
    ServerMetadata,
    describe_model,
    extensions,
)
from service.api.large_requests import RequestReader
from service.api.predict import ModelChoice
from service.errors import UnavailableError
from service.http.exchange import Answer, Handler, HttpExchange, read_content
from service.http.middleware import HotRoutes
from service.http.openapi import HEADERS
from service.inference.pipeline import Pipeline
from service.registry.repository import ModelRepository
from service.settings import Settings

PREFIX: Final = "/v2"
TAG: Final = "Open Inference Protocol (V2)"
Model = Annotated[ModelChoice, Path(description="the model's name", examples=["sequential"])]
Version = Annotated[str, Path(description="a number or a label", examples=["1"])]
COMPUTING_ERRORS: Final = (400, 404, 408, 413, 415, 422, 503, 504)
"""Statuses that a prediction request may get, in any protocol."""
INFER_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        JSON_TYPE: {
            "schema": {key: value for key, value in RequestDocument.model_json_schema().items() if key != "$defs"}
            | {"properties": {"id": {"type": "string"}, "inputs": {"type": "array"}, "outputs": {"type": "array"}}},
            "example": {
                "inputs": [{"name": IMAGES, "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": [128] * 3072}],
                "outputs": [{"name": PROBABILITIES, "parameters": {"classification": 3}}],
            },
        },
        BINARY_TYPE: {"schema": {"type": "string", "format": "binary"}},
    },
}
INFER_HEADERS: Final = [
    *HEADERS,
    {
        "name": HEADER_LENGTH,
        "in": "header",
        "description": "length of the JSON in bytes, if binary tensors follow it",
        "schema": {"type": "integer", "minimum": 0},
    },
]


def infer_handler(pipeline: Pipeline, reader: RequestReader) -> Handler:
    """Return the handler of infer requests; not every path names a version."""

    async def infer(exchange: HttpExchange) -> Answer:
        """One input: `images` (UINT8, n x height x width x 3), or `image_bytes` (BYTES, n files; base64 in JSON).

        Input and output may follow the JSON in binary (binary tensor data extension).
        """
        model, version = exchange.path_params["model"], exchange.path_params.get("version")
        exchange.trace.request_model(model, version)
        given = exchange.headers.get(RAW_HEADER_LENGTH)
        header_length = None if given is None else given.decode("latin-1")
        with pipeline.admit(exchange) as slot:
            body, deadline = await read_content(exchange, slot)
            asked = await reader.read(
                json_bytes(body, header_length),
                deadline,
                parse_infer_request,
                body,
                header_length,
                max_rows=pipeline.max_images_per_request,
            )
            del body
            wanted = None if version is None else requested_version(version)
            if asked.is_without_shape:
                with pipeline.lease(exchange.trace, model=model, version=wanted) as leased:
                    pixels = asked.shaped(leased.input_shape)
                    inferred = await pipeline.infer(pixels, exchange.trace, deadline, leased=leased)
                    return infer_answer(asked, inferred)
            inferred = await pipeline.infer(
                asked.inputs,
                exchange.trace,
                deadline if asked.timeout_s is None else deadline.at_most(asked.timeout_s),
                model=model,
                version=wanted,
            )
            return infer_answer(asked, inferred.require_all())

    return infer


class ServerLive(BaseModel):
    """The liveness of the server."""

    live: bool = True


class ServerReady(BaseModel):
    """The readiness of the server."""

    ready: bool


class ModelReady(BaseModel):
    """The readiness of a model or a version."""

    name: str
    ready: bool


class PlainError(BaseModel):
    """The reason why a request failed."""

    error: str


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the declarations of these error statuses for the OpenAPI document."""
    return {status: {"model": PlainError} for status in statuses}


class OutputTensor(BaseModel):
    """An output of an inference; without `data` it follows the JSON in binary."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = None
    data: list[float] | list[str] | None = None


class InferAnswer(BaseModel):
    """Response to an inference request."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


INFER_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": InferAnswer, "content": {BINARY_TYPE: {"schema": {"type": "string", "format": "binary"}}}},
    **error_responses(*COMPUTING_ERRORS, 501),
}


def open_inference_routes(repository: ModelRepository, infer: Handler, hot: HotRoutes, settings: Settings) -> APIRouter:
    """Return the routes; `infer` is the handler of the infer routes."""
    routes = APIRouter(prefix=PREFIX, tags=[TAG])

    def model_ready(response: Response, model: str, version: str) -> ModelReady:
        try:
            repository.find(model, requested_version(version))
        except UnavailableError as error:
            response.status_code = error.status
            response.headers["Retry-After"] = str(error.retry_after_s)
            return ModelReady(name=model, ready=False)
        return ModelReady(name=model, ready=True)

    @routes.get("/", include_in_schema=False)  # as the protocol's OpenAPI document spells it
    @routes.get("", summary="Server metadata and supported extensions")
    async def server_metadata() -> ServerMetadata:
        return ServerMetadata(extensions=extensions(with_repository=settings.admin_token is not None))

    @routes.get("/health/live", summary="Liveness probe")
    async def server_live() -> ServerLive:
        return ServerLive()

    @routes.get("/health/ready", summary="Readiness probe", responses={503: {"model": ServerReady}})
    async def server_ready(response: Response) -> ServerReady:
        reason = repository.not_ready_reason
        if reason is not None:
            response.status_code = UnavailableError.status
            response.headers["Retry-After"] = str(repository.retry_after_s)
        return ServerReady(ready=reason is None)

    @routes.get(
        "/models/{model}", summary="Model metadata: tensors and versions", responses=error_responses(400, 404, 503)
    )
    async def model_metadata(model: Model) -> ModelDescription:
        return describe_model(repository, model, "")

    @routes.get(
        "/models/{model}/versions/{version}",
        summary="Version metadata: tensors",
        responses=error_responses(400, 404, 503),
    )
    async def version_metadata(model: Model, version: Version) -> ModelDescription:
        return describe_model(repository, model, version)

    @routes.get(
        "/models/{model}/ready",
        summary="Readiness of a model",
        responses=error_responses(404) | {503: {"model": ModelReady}},
    )
    async def is_model_ready(response: Response, model: Model) -> ModelReady:
        return model_ready(response, model, "")

    @routes.get(
        "/models/{model}/versions/{version}/ready",
        summary="Readiness of a version",
        responses=error_responses(400, 404) | {503: {"model": ModelReady}},
    )
    async def is_version_ready(response: Response, model: Model, version: Version) -> ModelReady:
        return model_ready(response, model, version)

    declaration: dict[str, Any] = {
        "responses": INFER_RESPONSES,
        "openapi_extra": {"requestBody": INFER_BODY, "parameters": INFER_HEADERS},
    }
    hot.add(
        routes,
        "/models/{model}/infer",
        infer,
        name="infer_model",
        summary="Classify images",
        dependencies=[Depends(declare_model)],
        **declaration,
    )
    hot.add(
        routes,
        "/models/{model}/versions/{version}/infer",
        infer,
        name="infer_version",
        summary="Classify images with one version",
        description="As without a version.",
        dependencies=[Depends(declare_version)],
        **declaration,
    )
    return routes


def declare_model(model: Model) -> None:
    """Make FastAPI describe the path's parameter."""


def declare_version(model: Model, version: Version) -> None:
    """Make FastAPI describe the path's parameters."""
