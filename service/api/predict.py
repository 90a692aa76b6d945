"""`/predict` and `/predict/batch`: the top classes of an image, or of several."""

from functools import lru_cache
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

import orjson
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from cifar10_serving.artifacts.metadata import MAX_CLASSES, NAME_PATTERN
from cifar10_serving.artifacts.rollout import LABEL_PATTERN, LEGAL_VERSION, parse_version
from cifar10_serving.schemas import BatchPrediction, BatchResult, InvalidParameter, Prediction
from service.errors import InvalidParameterError, InvalidRequestError, RequestError
from service.http.errors import invalid_parameters, problem_of
from service.http.exchange import Answer, Handler, HttpExchange, read_image, record_answer
from service.http.middleware import HotRoutes
from service.http.openapi import FILES_BODY, HEADERS, IMAGE_BODY, problem_responses
from service.http.uploads import FormField, check_type, files_of_form, form_type
from service.inference.pipeline import Pipeline, name_classes, prediction_document

ModelChoice = Annotated[str, WithJsonSchema({"type": "string", "pattern": NAME_PATTERN, "examples": ["sequential"]})]
"""A model's name. A text that can be none is not known, like any other."""
DEFAULT_TOP_K: Final = 3
TopK = Annotated[int, Field(ge=1, le=MAX_CLASSES)]
PATH: Final = "/predict"
BATCH_PATH: Final = "/predict/batch"
MAX_KEPT_QUERIES: Final = 256
"""Number of cached query strings; the protocol limits each to 8 KiB."""


def _version(text: object) -> int | str:
    try:
        return parse_version(str(text))
    except ValueError:
        raise PydanticCustomError("version", "should be {legal}", {"legal": LEGAL_VERSION}) from None


VersionChoice = Annotated[
    int | str,
    BeforeValidator(_version),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": LABEL_PATTERN}],
            "examples": [1, "canary"],
        }
    ),
]
"""A version's number or label."""


def check_top_k(top_k: int, classes: int) -> None:
    """Check that there are so many classes; what is listed where nothing is asked for may be all of them.

    Raises:
        InvalidParameterError: there are fewer.
    """
    if top_k > DEFAULT_TOP_K and top_k > classes:
        raise above("top_k", top_k, classes)


def above(name: str, value: int, most: int) -> InvalidParameterError:
    """Return the error of a parameter that is too large for the version that is asked."""
    expected = f"should be less than or equal to {most}"
    return InvalidParameterError([InvalidParameter(name=name, value=str(value), expected=expected)])


class PredictParameters(BaseModel):
    """The query parameters of `POST /predict`; unknown ones are errors, since they may be misspelt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: ModelChoice | None = Field(
        None, description="name of the model; default: the one that /models marks as default", examples=["sequential"]
    )
    version: VersionChoice | None = Field(
        None, description="number or label of the version; default: the serving version"
    )
    top_k: TopK = Field(DEFAULT_TOP_K, description="number of classes in `top`; at most as many as the model has")


@lru_cache(MAX_KEPT_QUERIES)
def read_parameters(query: bytes) -> PredictParameters:
    """Return the parameters in a query string; the last value of a repeated one counts.

    Raises:
        InvalidParameterError: one is unknown or not valid.
    """
    values = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    try:
        return PredictParameters.model_validate(values)
    except ValidationError as error:
        known = PredictParameters.model_fields
        raise InvalidParameterError(invalid_parameters(map(dict, error.errors()), known)) from None


def declare_parameters(_: Annotated[PredictParameters, Query()]) -> None:
    """Make FastAPI describe the query parameters."""


def predict_routes(pipeline: Pipeline, hot: HotRoutes) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["predict"])
    declaration: dict[str, Any] = {
        "dependencies": [Depends(declare_parameters)],
        "responses": problem_responses(400, 404, 408, 413, 415, 422, 503, 504),
    }
    hot.add(
        routes,
        PATH,
        predict_handler(pipeline),
        name="predict",
        summary="Classify one image",
        response_model=Prediction,
        openapi_extra={"requestBody": IMAGE_BODY, "parameters": HEADERS},
        **declaration,
    )
    hot.add(
        routes,
        BATCH_PATH,
        batch_handler(pipeline),
        name="predict_batch",
        summary="Classify several images",
        response_model=BatchPrediction,
        openapi_extra={"requestBody": FILES_BODY, "parameters": HEADERS},
        **declaration,
    )
    return routes


def predict_handler(pipeline: Pipeline) -> Handler:
    """Return the handler of `POST /predict`."""

    async def predict(exchange: HttpExchange) -> Answer:
        """Send the image as the multipart field `file`, or as the body with its `image/…` type.

        PNG, JPEG, WebP, GIF, BMP, TIFF, HEIC or AVIF of any size (first frame or page); the central square is resized
        to the model's input size.
        """
        return await answer_image(pipeline, exchange, read_parameters(exchange.query))

    return predict


async def answer_image(pipeline: Pipeline, exchange: HttpExchange, asked: PredictParameters) -> Answer:
    """Return the answer to a request with one image.

    Raises:
        ClientDisconnect: the client disconnected.
        RequestError: there is no answer.
    """
    exchange.trace.request_model(asked.model, asked.version)
    with pipeline.admit(exchange) as slot:
        image, deadline = await read_image(exchange, slot)
        inferred = await pipeline.infer([image], exchange.trace, deadline, model=asked.model, version=asked.version)
        if asked.top_k > DEFAULT_TOP_K:
            check_top_k(asked.top_k, len(inferred.version.labels))
        probabilities = inferred.require_all(name_index=False).probabilities[0]
        return Answer(orjson.dumps(prediction_document(inferred.version, probabilities, asked.top_k)))


def batch_handler(pipeline: Pipeline) -> Handler:
    """Return the handler of `POST /predict/batch`."""

    async def predict_batch(exchange: HttpExchange) -> Answer:
        """Send each image as a multipart field `files`. An image that can't be read fails only its own entry."""
        asked = read_parameters(exchange.query)
        exchange.trace.request_model(asked.model, asked.version)
        with pipeline.admit(exchange) as slot:
            _, options = form_type(exchange.headers)
            body, deadline = await exchange.read(slot)
            files = files_of_form(body, options, max_files=pipeline.max_images_per_request)
            del body
            rejected = [_rejection(file) for file in files]
            inferred = await pipeline.infer(
                [file.content for file, error in zip(files, rejected, strict=True) if error is None],
                exchange.trace,
                deadline,
                model=asked.model,
                version=asked.version,
            )
            version, computed = inferred.version, inferred.results()
            check_top_k(asked.top_k, len(version.labels))
            results = []
            for file, error in zip(files, rejected, strict=True):
                result = next(computed) if error is None else error
                results.append(
                    BatchResult(name=file.filename, error=problem_of(result))
                    if isinstance(result, RequestError)
                    else BatchResult(name=file.filename, prediction=name_classes(version, result, asked.top_k))
                )
            return record_answer(BatchPrediction(model=version.name, version=version.version, results=results))

    return predict_batch


def _rejection(file: FormField) -> RequestError | None:
    """Return the reason why a file is not decoded, or None."""
    if not file.content:
        return InvalidRequestError("the file has 0 bytes", expected="an image")
    try:
        check_type(file.content_type)
    except RequestError as error:
        return error
    return None
