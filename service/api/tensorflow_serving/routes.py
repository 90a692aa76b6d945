"""TensorFlow Serving's routes under `/v1/models`.

https://www.tensorflow.org/tfx/serving/api_rest
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from catalog.errors import ArtifactError
from catalog.metadata import SignatureSpec
from catalog.rollout import LEGAL_VERSION, parse_version
from service.api.declarations import HEADERS
from service.api.json_response import respond
from service.api.large_requests import RequestReader
from service.api.native import metadata_of
from service.api.open_inference.routes import COMPUTING_ERRORS, error_responses
from service.api.tensorflow_serving.answers import model_metadata, prediction_answer, version_states
from service.api.tensorflow_serving.requests import (
    Document,
    PredictRequest,
    classify_request,
    predict_request,
)
from service.core.pipeline import Pipeline
from service.core.repository import RETRY_AFTER_FAILURE_S, ModelRepository
from service.errors import InvalidRequestError, UnavailableError, UnknownModelError
from service.http.body import content_codings, decompress
from service.http.errors import Answer
from service.http.exchange import HttpExchange
from service.settings import Settings

PREFIX: Final = "/v1/models"
TAG: Final = "TensorFlow Serving (V1)"
MODEL, VERSION, LABEL = "model", "version", "label"
PATHS: Final = {
    f"/{{{MODEL}}}": "a model",
    f"/{{{MODEL}}}/versions/{{{VERSION}}}": "a version",
    f"/{{{MODEL}}}/labels/{{{LABEL}}}": "the version with a label",
}
BODY: Final[Document] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"type": "object"},
            "example": {"signature_name": "encoded_images", "instances": [{"b64": "iVBORw0KGgo…"}]},
        }
    },
}


class Predictions(BaseModel):
    """Response of `:predict`: `predictions` in the row format, `outputs` in the columnar format."""

    predictions: list[list[float]] | None = None
    outputs: list[list[float]] | None = None


class Classifications(BaseModel):
    """Response of `:classify`: for each example the pairs of label and probability."""

    result: list[list[tuple[str, float]]]


ReadRequest = Callable[[bytes, Sequence[SignatureSpec]], PredictRequest]


def tensorflow_serving_routes(
    repository: ModelRepository, pipeline: Pipeline, reader: RequestReader, settings: Settings
) -> APIRouter:
    """The routes, answering from this repository and by this pipeline."""
    routes = APIRouter(prefix=PREFIX, tags=[TAG])

    async def answer_with(request: Request, read_request: ReadRequest) -> Response:
        model, version = request.path_params[MODEL], _asked_version(request)

        async def answer(exchange: HttpExchange) -> Answer:
            with pipeline.admit(exchange) as slot:
                codings = content_codings(exchange.headers)
                body, deadline = await exchange.read(slot)
                body = await decompress(body, codings, slot, max_body_bytes=settings.max_body_bytes)
                metadata = metadata_of(repository.find(model, version))
                asked = await reader.read(len(body), deadline, read_request, body, metadata.signatures)
                del body
                inferred = await pipeline.infer(asked.inputs, exchange.trace, deadline, model=model, version=version)
                return prediction_answer(asked, inferred.require_all().probabilities)

        return await respond(request, settings, answer)

    async def status(request: Request) -> dict[str, Any]:
        model, version = request.path_params[MODEL], _asked_version(request)
        found = repository.model_status(model)
        number = found.labels.get(version) if isinstance(version, str) else version
        versions = [known for known in found.versions if version is None or known.version == number]
        if not versions:
            raise UnknownModelError(
                f"{model} has no version {version}",
                available=[*(str(known.version) for known in found.versions), *found.labels],
                asked=str(version),
            )
        return version_states(versions)

    async def metadata(request: Request) -> dict[str, Any]:
        entry = repository.find(request.path_params[MODEL], _asked_version(request))
        try:
            return await asyncio.to_thread(model_metadata, entry)  # it reads the artifact's files
        except ArtifactError as error:
            raise UnavailableError(error.problem, retry_after_s=RETRY_AFTER_FAILURE_S, remedy=error.remedy) from None

    async def predict(request: Request) -> Response:
        """Row form `{"instances": […]}` or column form `{"inputs": […]}`; `encoded_images` takes files."""
        return await answer_with(request, predict_request)

    async def classify(request: Request) -> Response:
        """`{"examples": [{"images": […]}, …]}`; each answer is the ten classes with their probabilities."""
        return await answer_with(request, classify_request)

    async def regress(_: Request) -> Response:
        raise InvalidRequestError("the models classify; they have no signature for regression", expected=":classify")

    for path, what in PATHS.items():
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in (MODEL, VERSION, LABEL)
            if f"{{{name}}}" in path
        ]
        read_only: dict[str, Any] = {"methods": ["GET"], "openapi_extra": {"parameters": parameters}}
        computing: dict[str, Any] = {
            "methods": ["POST"],
            "openapi_extra": {"parameters": [*parameters, *HEADERS], "requestBody": BODY},
        }
        errors = error_responses(*COMPUTING_ERRORS)
        predicting: dict[str, Any] = {"responses": errors | {200: {"model": Predictions}}, **computing}
        classifying: dict[str, Any] = {"responses": errors | {200: {"model": Classifications}}, **computing}
        routes.add_api_route(f"{path}:predict", predict, summary=f"Predict with {what}", **predicting)
        routes.add_api_route(f"{path}:classify", classify, summary=f"Classify with {what}", **classifying)
        routes.add_api_route(f"{path}:regress", regress, include_in_schema=False, methods=["POST"])
        routes.add_api_route(path, status, summary=f"State of {what}", responses=error_responses(400, 404), **read_only)
        routes.add_api_route(
            f"{path}/metadata",
            metadata,
            summary=f"Signatures of {what}",
            responses=error_responses(400, 404, 503),
            **read_only,
        )
    return routes


def _asked_version(request: Request) -> int | str | None:
    text = request.path_params.get(VERSION) or request.path_params.get(LABEL)
    if text is None:
        return None
    try:
        version = parse_version(text)
    except ValueError:
        version = None
    if version is None or isinstance(version, int) != (VERSION in request.path_params):
        raise InvalidRequestError(f"{request.url.path[:200]} has no version or label", expected=LEGAL_VERSION)
    return version
