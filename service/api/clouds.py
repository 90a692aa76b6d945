"""The routes that SageMaker and Vertex AI call in a container: a health check, and predictions.

An image as the body gets the answer of `/predict`. A JSON document `{"instances": [image, …], "parameters": {…}}` gets
`{"predictions": […]}`, for each image the answer of `/predict`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from fastapi import APIRouter
from pydantic import BaseModel

from cifar10_serving.artifacts.metadata import IMAGES, MAX_DIMENSIONS, InputShape
from cifar10_serving.runtimes.base import Images
from cifar10_serving.schemas import Prediction
from cifar10_serving.text import did_you_mean
from service.api.large_requests import RequestReader
from service.api.operations import add_readiness_route
from service.api.predict import PredictParameters, answer_image, check_top_k, read_parameters
from service.api.tensorflow_serving import BASE64, JSON_TYPE, Served, read_instances
from service.api.tensorflow_serving import PREFIX as TENSORFLOW_SERVING
from service.api.tensors import DATATYPES, IMAGE_BYTES, parse_json, truncated_repr
from service.cloud import SAGEMAKER, Contract
from service.errors import InvalidRequestError, NotAcceptableError
from service.http.body import RawHeaders
from service.http.exchange import JSON_HEADER, Answer, Handler, HttpExchange, read_content
from service.http.middleware import HotRoutes
from service.http.openapi import HEADERS, IMAGE_BODY, problem_responses
from service.images.decoding import DecodeThreads
from service.inference.pipeline import Pipeline, prediction_document
from service.registry.repository import ModelRepository

CUSTOM_ATTRIBUTES: Final = b"x-amzn-sagemaker-custom-attributes"
ACCEPTABLE: Final = frozenset({b"*/*", b"application/*", JSON_TYPE.encode()})
NO_TARGET: Final = b""
"""No request has this path and query."""
INSTANCES: Final = "instances"
PARAMETERS: Final = "parameters"
WAYS: Final = (
    f'{{"{INSTANCES}": [image, …], "{PARAMETERS}": {{"model": …, "version": …, "top_k": …}}}}; an image is '
    f'{{"{BASE64}": "…"}}, or rows of pixels of 3 numbers'
)
BODY: Final[dict[str, Any]] = {
    **IMAGE_BODY,
    "content": IMAGE_BODY["content"]
    | {
        JSON_TYPE: {
            "schema": {"type": "object", "required": [INSTANCES]},
            "example": {INSTANCES: [{BASE64: "iVBORw0KGgo…"}], PARAMETERS: {"top_k": 3}},
        }
    },
}


class Predictions(BaseModel):
    """Response to a JSON document."""

    predictions: list[Prediction]


@dataclass(frozen=True, slots=True)
class InstancesRequest:
    """A parsed JSON document.

    Args:
        inputs: (rows, height, width, 3) uint8 RGB 0..255, or encoded images.
        query: the parameters as a query string.
    """

    inputs: Images | list[bytes]
    query: bytes


def instances_request(body: bytes) -> InstancesRequest:
    """Parse a JSON document.

    Raises:
        InvalidRequestError: it is not valid.
    """
    document = parse_json(body, expected=WAYS)
    if not isinstance(document, dict):
        raise InvalidRequestError(f"the request is {truncated_repr(document)}", expected=f"an object: {WAYS}")
    instances, parameters = document.get(INSTANCES), document.get(PARAMETERS) or {}
    if not isinstance(instances, list):
        meant = next(
            (f": {truncated_repr(key)}{hint}" for key in document if (hint := did_you_mean(key, [INSTANCES]))), ""
        )
        raise InvalidRequestError(f"the request has no list '{INSTANCES}'{meant}", expected=WAYS)
    if not isinstance(parameters, dict):
        raise InvalidRequestError(f"'{PARAMETERS}' is {truncated_repr(parameters)}", expected=f"an object: {WAYS}")
    given = {name: value for name, value in parameters.items() if value is not None}
    return InstancesRequest(_inputs(instances), urlencode(given).encode())


def _inputs(instances: list[Any]) -> Images | list[bytes]:
    """Return the images; the first one tells whether they are encoded, and the shape of pixels."""
    first = instances[0] if instances else {BASE64: ""}
    if isinstance(first, dict) and len(first) == 1 and next(iter(first)) in DATATYPES:
        ((name, first),) = first.items()
    else:
        name = IMAGE_BYTES if isinstance(first, dict) else IMAGES
    shape = (0, 0, 0) if name == IMAGE_BYTES else _shape(first)
    return read_instances(name, instances, Served({}, shape))


def _shape(image: object) -> InputShape:
    """Return height, width and channels of an image in nested lists, as the first of each level tell."""
    shape: list[int] = []
    value = image
    while isinstance(value, list) and value and len(shape) < MAX_DIMENSIONS:
        shape.append(len(value))
        value = value[0]
    match shape:
        case [height, width, channels]:
            return height, width, channels
    raise InvalidRequestError(f"image 0 is {truncated_repr(image)}", expected=WAYS)


def cloud_routes(
    contract: Contract,
    repository: ModelRepository,
    pipeline: Pipeline,
    reader: RequestReader,
    *,
    decode_threads: DecodeThreads,
    hot: HotRoutes,
) -> APIRouter:
    """Return the routes of a contract; add them before those whose paths Vertex AI's variables may name."""
    routes = APIRouter(tags=["SageMaker" if contract.cloud == SAGEMAKER else "Vertex AI"])
    add_readiness_route(routes, contract.health_path, repository, decode_threads)
    if not contract.predict_path.startswith(f"{TENSORFLOW_SERVING}/"):  # it names a model, and answers instances itself
        hot.add(
            routes,
            contract.predict_path,
            predict_handler(pipeline, reader, is_sagemaker=contract.cloud == SAGEMAKER),
            name="invoke",
            summary="Classify an image, or instances",
            responses=problem_responses(400, 404, 406, 408, 413, 415, 422, 503, 504) | {200: {"model": Predictions}},
            openapi_extra={"requestBody": BODY, "parameters": HEADERS},
        )
    return routes


def predict_handler(pipeline: Pipeline, reader: RequestReader, *, is_sagemaker: bool) -> Handler:
    """Return the handler of predictions.

    Args:
        is_sagemaker: whether the header `Accept` and the custom attributes count.
    """

    async def invoke(exchange: HttpExchange) -> Answer:
        """Send an image with its `image/…` type, or JSON with `instances`.

        `parameters` in the JSON, or SageMaker's custom attributes (`model=vgg16,top_k=5`), select the model.
        """
        if exchange.ticket is not None:
            # Headers and body choose the model. If the queue of one is full, others may have room.
            exchange.ticket.target = NO_TARGET
        attributes = None
        if is_sagemaker:
            check_accept(exchange.headers)
            attributes = exchange.headers.get(CUSTOM_ATTRIBUTES)
        query = _join(exchange.query, attributes_query(attributes or b""))
        if is_json(exchange.headers):
            answer = await answer_instances(exchange, query)
        else:
            answer = await answer_image(pipeline, exchange, read_parameters(query))
        if attributes is None:
            return answer
        return Answer(answer.body, (JSON_HEADER, (CUSTOM_ATTRIBUTES, attributes)))

    async def answer_instances(exchange: HttpExchange, query: bytes) -> Answer:
        with pipeline.admit(exchange) as slot:
            body, deadline = await read_content(exchange, slot)
            given = await reader.read(len(body), deadline, instances_request, body)
            del body
            asked = read_parameters(_join(query, given.query))
            exchange.trace.request_model(asked.model, asked.version)
            inferred = await pipeline.infer(
                given.inputs, exchange.trace, deadline, model=asked.model, version=asked.version
            )
            check_top_k(asked.top_k, len(inferred.version.labels))
            rows = inferred.require_all().probabilities
            predictions = [prediction_document(inferred.version, row, asked.top_k) for row in rows]
            return Answer(orjson.dumps({"predictions": predictions}))

    return invoke


def is_json(headers: RawHeaders) -> bool:
    """Return whether the declared type of a body is JSON."""
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == JSON_TYPE.encode()


def check_accept(headers: RawHeaders) -> None:
    """Check that the client accepts JSON.

    Raises:
        NotAcceptableError: it does not.
    """
    accepted = headers.get(b"accept", b"").strip()
    if accepted and not any(part.partition(b";")[0].strip().lower() in ACCEPTABLE for part in accepted.split(b",")):
        raise NotAcceptableError(
            f"the client accepts only {accepted.decode('latin-1')[:100]!r}", expected=f"Accept: {JSON_TYPE}"
        )


def attributes_query(attributes: bytes) -> bytes:
    """Return those custom attributes `NAME=VALUE,…` that are parameters as a query string; others are the client's."""
    pairs: Mapping[str, str] = {
        name.strip(): value.strip()
        for name, equals, value in (part.partition("=") for part in attributes.decode("latin-1").split(","))
        if equals
    }
    return urlencode({name: value for name, value in pairs.items() if name in PredictParameters.model_fields}).encode()


def _join(*queries: bytes) -> bytes:
    return b"&".join(query for query in queries if query)
