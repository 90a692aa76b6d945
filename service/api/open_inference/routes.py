"""The Open Inference Protocol's routes under `/v2`: what there is to know, and what `infer`, in its lane, answers.

The extensions are `extension_routes`' and `repository_routes`' part.

https://github.com/kserve/open-inference-protocol, version 2.
"""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel

from service.api.declarations import HEADERS
from service.api.open_inference.infer_request import HEADER_LENGTH, RequestDocument
from service.api.open_inference.infer_response import BINARY_TYPE, JSON_TYPE
from service.api.open_inference.metadata import (
    ModelDescription,
    ServerMetadata,
    describe_model,
    extensions,
    requested_version,
)
from service.api.tensors import IMAGES, PROBABILITIES
from service.core.repository import ModelRepository
from service.errors import UnavailableError
from service.settings import Settings

PREFIX: Final = "/v2"
TAG: Final = "Open Inference Protocol (V2)"
Model = Annotated[str, Path(description="the model's name", examples=["sequential"])]
Version = Annotated[str, Path(description="a number or a label", examples=["1"])]


class ServerLive(BaseModel):
    """The process answers."""

    live: bool = True


class ServerReady(BaseModel):
    """Whether requests are answered."""

    ready: bool


class ModelReady(BaseModel):
    """Whether a model, or one version of it, answers."""

    name: str
    ready: bool


class PlainError(BaseModel):
    """Why a request is not answered."""

    error: str


COMPUTING_ERRORS: Final = (400, 404, 408, 413, 415, 422, 503, 504)
"""The statuses that a request for predictions may get, whichever the protocol."""


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the OpenAPI document says of these error statuses."""
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


def open_inference_routes(repository: ModelRepository, settings: Settings) -> APIRouter:
    """The routes, answering from this repository."""
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

    @routes.post(
        "/models/{model}/infer",
        summary="Classify images",
        responses=INFER_RESPONSES,
        openapi_extra={"requestBody": INFER_BODY, "parameters": INFER_HEADERS},
    )
    async def infer_model(model: Model) -> Response:
        """One input: `images` (UINT8, n x 32 x 32 x 3), or `image_bytes` (BYTES, n files; base64 in JSON).

        Either may follow the JSON in binary, and so may the output: the binary tensor data extension.
        """
        raise _declared_only(model)

    @routes.post(
        "/models/{model}/versions/{version}/infer",
        summary="Classify images with one version",
        responses=INFER_RESPONSES,
        openapi_extra={"requestBody": INFER_BODY, "parameters": INFER_HEADERS},
    )
    async def infer_version(model: Model, version: Version) -> Response:
        """As without a version."""
        raise _declared_only(model, version)

    return routes


def _declared_only(*named: str) -> AssertionError:
    return AssertionError(f"InferEndpoint answers for {named} before a request comes here; this declares what it does")
