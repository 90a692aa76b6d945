"""TensorFlow Serving's REST API: `/v1/models/…`, its requests and answers.

https://www.tensorflow.org/tfx/serving/api_rest
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any, Final, Literal, Self

import numpy as np
import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel

from cifar10_serving.artifacts.metadata import IMAGES, SIGNATURE, InputShape, ModelMetadata
from cifar10_serving.artifacts.rollout import LEGAL_VERSION, parse_version
from cifar10_serving.artifacts.saved_model import SignatureTensor, signatures_of
from cifar10_serving.errors import ArtifactError
from cifar10_serving.runtimes.base import Images, Probabilities
from cifar10_serving.schemas import VersionState, VersionStatus
from cifar10_serving.text import did_you_mean
from service.api.kserve.routes import COMPUTING_ERRORS, error_responses
from service.api.large_requests import RequestReader
from service.api.models import metadata_of
from service.api.tensors import (
    DATATYPES,
    TensorHead,
    decode_base64,
    images_from_values,
    parse_json,
    tensor_head,
    truncated_repr,
)
from service.errors import InvalidRequestError, UnavailableError, UnknownModelError
from service.http.exchange import Answer, HttpExchange, read_content
from service.http.middleware import HotRoutes
from service.http.openapi import HEADERS
from service.inference.pipeline import Pipeline
from service.registry.repository import RETRY_AFTER_FAILURE_S, ModelRepository
from service.registry.version import ModelVersion

BASE64: Final = "b64"
FORMS: Final = ("instances", "inputs")

Document = dict[str, Any]
STATES: Final = {
    VersionState.READY: "AVAILABLE",
    VersionState.LOADING: "LOADING",
    VersionState.DRAINING: "UNLOADING",
    VersionState.FAILED: "END",
    VersionState.PUBLISHED: "END",
}
JSON_TYPE: Final = "application/json"
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


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """A parsed request for predictions.

    Args:
        inputs: (rows, height, width, 3) uint8 RGB 0..255, or encoded images.
        form: the key of the values in the answer.
    """

    inputs: Images | list[bytes]
    form: Literal["predictions", "outputs", "result"]


@dataclass(frozen=True, slots=True)
class Served:
    """The inputs of a version.

    Args:
        inputs: the name of each signature's input, by the signature's name.
        shape: height, width and channels of an image.
    """

    inputs: Mapping[str, str]
    shape: InputShape

    @classmethod
    def of(cls, metadata: ModelMetadata) -> Self:
        """Return the inputs of a version from its metadata, without signatures that have an unknown input."""
        inputs = {known.name: known.inputs[0].name for known in metadata.signatures}
        return cls({name: given for name, given in inputs.items() if given in DATATYPES}, metadata.input_shape)

    @property
    def ways(self) -> str:
        """A description of the ways to send images."""
        numbers = "x".join(map(str, self.shape))
        return (
            f'{{"instances": [image, …]}} or {{"inputs": [image, …]}}; an image is {numbers} numbers, or {{"b64": "…"}}'
        )

    @property
    def examples_way(self) -> str:
        """A description of the way to send examples."""
        numbers = f'{{"examples": [{{"images": [{prod(self.shape):,} numbers]}}, …]}}'
        return f'{numbers}, or {{"image_bytes": {{"b64": "…"}}}} for a file'


def _document(body: bytes, served: Served) -> Document:
    """Parse the JSON of a request, without members that are null.

    Raises:
        InvalidRequestError: it is not JSON, or not an object.
    """
    document = parse_json(body, expected=served.ways)
    if not isinstance(document, dict):
        raise InvalidRequestError(f"the request is {truncated_repr(document)}", expected=f"an object: {served.ways}")
    return {name: value for name, value in document.items() if value is not None}


def predict_request(body: bytes, served: Served) -> PredictRequest:
    """Parse a `:predict` request, in row or column form.

    Args:
        body: the JSON.
        served: the inputs of the version.

    Raises:
        InvalidRequestError: the request is not valid.
    """
    document = _document(body, served)
    name = _input_of(document, served)
    if ("instances" in document) == ("inputs" in document):
        found = "both 'instances' and" if "inputs" in document else "neither 'instances' nor"
        meant = "" if "inputs" in document else _misspelt(document, FORMS)
        raise InvalidRequestError(f"the request has {found} 'inputs'{meant}", expected=f"one of them: {served.ways}")
    if "instances" in document:
        return _read(name, _rows(name, document["instances"], served), "predictions", served)
    given = document["inputs"]
    return _read(name, _named(name, given) if isinstance(given, dict) else given, "outputs", served)


def read_instances(name: str, instances: list[Any], served: Served) -> Images | list[bytes]:
    """Return the rows of one input, each bare or with the input's name.

    Args:
        name: the input: pixels or encoded images.
        instances: the rows.
        served: the inputs of the version, with the shape of the pixels.

    Raises:
        InvalidRequestError: they are not valid.
    """
    return _read(name, _rows(name, instances, served), "predictions", served).inputs


def classify_request(body: bytes, served: Served) -> PredictRequest:
    """Parse a `:classify` request: examples with features, and a context that all of them share.

    Raises:
        InvalidRequestError: the request is not valid.
    """
    document = _document(body, served)
    name = _input_of(document, served)
    examples, context = document.get("examples"), document.get("context", {})
    if not isinstance(examples, list) or not isinstance(context, dict):
        meant = _misspelt(document, ["examples"])
        raise InvalidRequestError(f"the request has no list 'examples'{meant}", expected=served.examples_way)
    features: list[Any] = []
    for index, example in enumerate(examples):
        feature = {**context, **example}.get(name) if isinstance(example, dict) else None
        if feature is None:
            raise InvalidRequestError(f"example {index} has no feature '{name}'", expected=served.examples_way)
        features.append(feature)
    if name == IMAGES and _are_flat(features, served.shape):
        flat = list(chain.from_iterable(features))
        return PredictRequest(images_from_values(_head(name, len(features), served), flat), "result")
    return _read(name, features, "result", served)


def _misspelt(document: Document, known: Sequence[str]) -> str:
    """Return a hint if a member of a document may be a misspelt known one."""
    return next((f": {truncated_repr(name)}{meant}" for name in document if (meant := did_you_mean(name, known))), "")


def _input_of(document: Document, served: Served) -> str:
    """Return the name of the input of the requested signature."""
    asked = document.get("signature_name")
    if asked is None or asked == "":
        asked = SIGNATURE
    if isinstance(asked, str) and asked in served.inputs:
        return served.inputs[asked]
    meant = did_you_mean(asked, served.inputs) if isinstance(asked, str) else ""
    raise InvalidRequestError(
        f"there is no signature {truncated_repr(asked)}{meant}", expected=f"one of {', '.join(served.inputs)}"
    )


def _rows(name: str, instances: object, served: Served) -> list[Any]:
    """Return the values of the rows, which may each name their input."""
    if not isinstance(instances, list):
        raise InvalidRequestError("'instances' is not a list", expected=served.ways)
    if not instances or not isinstance(instances[0], dict) or BASE64 in instances[0]:
        return instances
    return [_named(name, row) if isinstance(row, dict) else row for row in instances]


def _named(name: str, values: Document) -> Any:
    if set(values) != {name}:
        raise InvalidRequestError(
            f"the request has values for {truncated_repr(sorted(values))}{_misspelt(values, [name])}",
            expected=f"only the signature's input '{name}'",
        )
    return values[name]


def _read(
    name: str, values: object, form: Literal["predictions", "outputs", "result"], served: Served
) -> PredictRequest:
    if not isinstance(values, list):
        raise InvalidRequestError(f"the values of '{name}' are not a list", expected=served.ways)
    head = _head(name, len(values), served)
    if head.is_pixels:
        return PredictRequest(images_from_values(head, values), form)
    return PredictRequest([decode_base64(name, _base64(index, value)) for index, value in enumerate(values)], form)


def _base64(index: int, value: object) -> object:
    if not isinstance(value, dict) or set(value) != {BASE64}:
        raise InvalidRequestError(
            f"image {index} is {truncated_repr(value)}", expected='{"b64": "…"}: a file in base64'
        )
    return value[BASE64]


def _head(name: str, rows: int, served: Served) -> TensorHead:
    return tensor_head(name, DATATYPES[name], [rows, *served.shape] if name == IMAGES else [rows])


def _are_flat(features: Sequence[object], shape: InputShape) -> bool:
    """Return whether each is a list with as many numbers as an image has."""
    return all(isinstance(feature, list) and len(feature) == prod(shape) for feature in features)


def version_states(versions: list[VersionStatus]) -> dict[str, Any]:
    """Return the answer to a request for the status of versions."""
    return {
        "model_version_status": [
            {
                "version": str(version.version),
                "state": STATES[version.state],
                "status": {
                    "error_code": "INTERNAL" if version.state is VersionState.FAILED else "OK",
                    "error_message": (version.reason or "") if version.state is VersionState.FAILED else "",
                },
            }
            for version in versions
        ]
    }


def model_metadata(entry: ModelVersion) -> dict[str, Any]:
    """Return the answer to a request for the metadata of a version.

    Raises:
        ArtifactError: its files are missing or have changed.
    """
    signatures = {
        name: {
            "inputs": {key: _tensor(tensor) for key, tensor in signature.inputs.items()},
            "outputs": {key: _tensor(tensor) for key, tensor in signature.outputs.items()},
            "method_name": signature.method_name,
            "defaults": {},
        }
        for name, signature in signatures_of(entry.folder, metadata_of(entry)).items()
    }
    return {
        "model_spec": {"name": entry.name, "signature_name": "", "version": str(entry.version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def prediction_answer(request: PredictRequest, probabilities: Probabilities, labels: Sequence[str]) -> Answer:
    """Return the answer to `:predict` or `:classify`; rows of the latter are pairs of label and score."""
    rows: Any = np.ascontiguousarray(probabilities)
    if request.form == "result":
        rows = [list(zip(labels, row, strict=True)) for row in probabilities.tolist()]
    return Answer(orjson.dumps({request.form: rows}, option=orjson.OPT_SERIALIZE_NUMPY))


def _tensor(tensor: SignatureTensor) -> dict[str, Any]:
    return {
        "dtype": tensor.dtype,
        "tensor_shape": {
            "dim": [{"size": str(size), "name": ""} for size in tensor.shape or ()],
            "unknown_rank": tensor.shape is None,
        },
        "name": tensor.name,
    }


class Predictions(BaseModel):
    """Response of `:predict`: `predictions` in the row format, `outputs` in the columnar format."""

    predictions: list[list[float]] | None = None
    outputs: list[list[float]] | None = None


class Classifications(BaseModel):
    """Response of `:classify`: pairs of label and probability for each example."""

    result: list[list[tuple[str, float]]]


ReadRequest = Callable[[bytes, Served], PredictRequest]


def tensorflow_serving_routes(
    repository: ModelRepository, pipeline: Pipeline, reader: RequestReader, hot: HotRoutes
) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix=PREFIX, tags=[TAG])

    async def answer(exchange: HttpExchange, read_request: ReadRequest) -> Answer:
        model, version = exchange.path_params[MODEL], asked_version(exchange.path_params, exchange.trace.path)
        exchange.trace.request_model(model, version)
        with pipeline.admit(exchange) as slot:
            body, deadline = await read_content(exchange, slot)
            with pipeline.lease(exchange.trace, model=model, version=version) as leased:
                asked = await reader.read(len(body), deadline, read_request, body, Served.of(metadata_of(leased)))
                del body
                inferred = await pipeline.infer(asked.inputs, exchange.trace, deadline, leased=leased)
                return prediction_answer(asked, inferred.require_all().probabilities, leased.labels)

    async def predict(exchange: HttpExchange) -> Answer:
        """Row form `{"instances": […]}` or column form `{"inputs": […]}`; `encoded_images` takes files."""
        return await answer(exchange, predict_request)

    async def classify(exchange: HttpExchange) -> Answer:
        """`{"examples": [{"images": […]}, …]}`; each answer lists every class with its probability."""
        return await answer(exchange, classify_request)

    async def regress(_: HttpExchange) -> Answer:
        raise InvalidRequestError("the models classify; they have no signature for regression", expected=":classify")

    async def status(request: Request) -> dict[str, Any]:
        model, version = request.path_params[MODEL], asked_version(request.path_params, request.url.path)
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
        version = asked_version(request.path_params, request.url.path)
        entry = repository.find(request.path_params[MODEL], version)
        try:
            return await asyncio.to_thread(model_metadata, entry)  # it reads the artifact's files
        except ArtifactError as error:
            raise UnavailableError(error.problem, retry_after_s=RETRY_AFTER_FAILURE_S, remedy=error.remedy) from None

    for path, what in PATHS.items():
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in (MODEL, VERSION, LABEL)
            if f"{{{name}}}" in path
        ]
        read_only: dict[str, Any] = {"methods": ["GET"], "openapi_extra": {"parameters": parameters}}
        computing = {"parameters": [*parameters, *HEADERS], "requestBody": BODY}
        errors = error_responses(*COMPUTING_ERRORS)
        hot.add(
            routes,
            f"{path}:predict",
            predict,
            name="predict",
            summary=f"Predict with {what}",
            responses=errors | {200: {"model": Predictions}},
            openapi_extra=computing,
        )
        hot.add(
            routes,
            f"{path}:classify",
            classify,
            name="classify",
            summary=f"Classify with {what}",
            responses=errors | {200: {"model": Classifications}},
            openapi_extra=computing,
        )
        hot.add(routes, f"{path}:regress", regress, name="regress", include_in_schema=False)
        routes.add_api_route(path, status, summary=f"State of {what}", responses=error_responses(400, 404), **read_only)
        routes.add_api_route(
            f"{path}/metadata",
            metadata,
            summary=f"Signatures of {what}",
            responses=error_responses(400, 404, 503),
            **read_only,
        )
    return routes


def asked_version(path_params: Mapping[str, str], path: str) -> int | str | None:
    """Return the version that a path names by number or label, or None.

    Raises:
        InvalidRequestError: it is not a valid number or label.
    """
    text = path_params.get(VERSION) or path_params.get(LABEL)
    if text is None:
        return None
    try:
        version = parse_version(text)
    except ValueError:
        version = None
    if version is None or isinstance(version, int) != (VERSION in path_params):
        raise InvalidRequestError(f"{path[:200]} has no version or label", expected=LEGAL_VERSION)
    return version
