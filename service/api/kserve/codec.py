"""The Open Inference Protocol's infer request and response over REST, with tensors in JSON or in binary after it.

https://github.com/kserve/open-inference-protocol
"""

from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, Final

import numpy as np
import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cifar10_serving.artifacts.metadata import MAX_DIMENSIONS, PROBABILITIES, InputShape
from cifar10_serving.artifacts.rollout import LEGAL_VERSION, parse_version
from cifar10_serving.runtimes.base import Images
from cifar10_serving.text import did_you_mean
from service.api.tensors import (
    EXPECTED_INPUT,
    TensorHead,
    bytes_of_elements,
    class_count,
    classifications,
    files_from_bytes,
    files_from_values,
    images_from_bytes,
    images_from_values,
    parse_json,
    tensor_head,
    truncated_repr,
    whole_number,
)
from service.errors import InvalidRequestError, UnsupportedCallError
from service.http.exchange import JSON_HEADERS, Answer
from service.inference.pipeline import Inferred

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
BINARY_SIZE: Final = "binary_data_size"
BINARY_OUTPUT: Final = "binary_data"
BINARY_OUTPUTS: Final = "binary_data_output"
CLASSIFICATION: Final = "classification"
PRECISION: Final = "precision"
"""The parameter of an answer that names the precision in which it was computed."""
SHARED_MEMORY: Final = "shared_memory_region"
TIMEOUT: Final = "timeout"
MAX_HEADER_LENGTH_DIGITS: Final = 12
NO_OBJECT: Final = ("dict_type", "model_type")
"""Error types whose texts use Python's terms instead of JSON's."""

Parameters = dict[str, Any]
OptionalParameters = Annotated[Parameters, BeforeValidator(lambda given: {} if given is None else given)]
"""Null counts as missing, as for every optional member."""
Size = Annotated[int, BeforeValidator(whole_number), Field(ge=0, lt=2**63)]
BINARY_TYPE: Final = "application/octet-stream"
JSON_TYPE: Final = "application/json"
BINARY_HEADER: Final = (b"content-type", BINARY_TYPE.encode())
RAW_HEADER_LENGTH: Final = HEADER_LENGTH.lower().encode()


class RequestInput(BaseModel):
    """An input tensor; unknown parameters are ignored, as the protocol requires."""

    model_config = ConfigDict(strict=True)

    name: str
    shape: list[Size] = Field(max_length=MAX_DIMENSIONS)
    datatype: str
    parameters: OptionalParameters = Field(default_factory=dict)
    data: Any = Field(None, description="the elements, flat or nested; omitted if they follow in binary")


class RequestOutput(BaseModel):
    """A requested output."""

    model_config = ConfigDict(strict=True)

    name: str
    parameters: OptionalParameters = Field(default_factory=dict)


class RequestDocument(BaseModel):
    """The JSON of an infer request."""

    model_config = ConfigDict(strict=True)

    id: str | None = Field(None, description="repeated in the answer")
    parameters: OptionalParameters = Field(default_factory=dict)
    inputs: list[RequestInput]
    outputs: Annotated[list[RequestOutput], BeforeValidator(lambda given: [] if given is None else given)] = Field(
        default_factory=list, description="default: all outputs"
    )


@dataclass(frozen=True, slots=True)
class InferRequest:
    """An infer request.

    Args:
        inputs: uint8 pixels in the shape of the request, or flat, (bytes,); or encoded images.
        classes: number of classes to name per row; None for probabilities.
        is_binary: whether the output follows the JSON in binary.
        timeout_s: the request's own deadline, or None.
        is_without_shape: whether the images are all bytes of the request, without a shape.
    """

    id: str | None
    inputs: Images | list[bytes]
    classes: int | None
    is_binary: bool
    timeout_s: float | None
    is_without_shape: bool = False

    def shaped(self, shape: InputShape) -> Images:
        """Return the images of a request that says no shape, for a version that takes this height, width and channels.

        Raises:
            InvalidRequestError: they are no whole images.
        """
        height, width, channels = shape
        pixels = np.asarray(self.inputs)
        if not pixels.size or pixels.size % prod(shape):
            raise InvalidRequestError(
                f"{HEADER_LENGTH} is 0, and the body has {pixels.size:,} bytes",
                expected=f"a multiple of {prod(shape):,}: {width}x{height} pixels of {channels} bytes each",
            )
        return pixels.reshape(-1, *shape)


def parse_infer_request(body: bytes, header_length: str | None, *, max_rows: int) -> InferRequest:
    """Parse a request.

    Args:
        header_length: the HTTP header `Inference-Header-Content-Length`, or None.
        max_rows: maximum number of images.

    Raises:
        InvalidRequestError: the request is not valid.
        TooLargeError: there are too many images.
        UnsupportedCallError: a tensor uses shared memory.
    """
    if header_length is None:
        document, binary = _document(body), memoryview(b"")
    else:
        length = _header_length(header_length, len(body))
        if length == 0:
            return _raw_request(body)
        document, binary = _document(memoryview(body)[:length]), memoryview(body)[length:]
    if len(document.inputs) != 1:
        raise InvalidRequestError(f"the request has {len(document.inputs)} inputs", expected=EXPECTED_INPUT)
    (given,) = document.inputs
    head = tensor_head(given.name, given.datatype, given.shape)
    inputs = _contents(head, given, binary, max_rows)
    classes, is_binary = _output(document)
    return InferRequest(document.id, inputs, classes, is_binary, timeout_of(document.parameters))


def json_bytes(body: bytes, header_length: str | None) -> int:
    """Return the number of bytes of a request that are JSON, according to the header, which may be wrong."""
    if header_length is None:
        return len(body)
    return min(int(header_length), len(body)) if _is_length(header_length) else 0


def requested_version(text: str) -> int | str | None:
    """Parse the version in a request, a number or a label; return None for an empty text.

    Raises:
        InvalidRequestError: it is neither.
    """
    if not text:
        return None
    try:
        return parse_version(text)
    except ValueError:
        raise InvalidRequestError(f"{text[:100]!r} is not a valid version", expected=LEGAL_VERSION) from None


def timeout_of(parameters: Parameters) -> float | None:
    """Return the deadline in Triton's parameter `timeout`, in seconds, or None.

    Raises:
        InvalidRequestError: it is not a whole number of microseconds.
    """
    asked = parameters.get(TIMEOUT)
    if asked is None or asked == 0:
        return None
    asked = whole_number(asked)
    if type(asked) is not int or asked < 0:
        raise InvalidRequestError(f"{TIMEOUT} = {truncated_repr(asked)}", expected="a whole number of microseconds")
    return asked / 1e6


def check_output_names(names: list[str]) -> None:
    """Check the names of the requested outputs.

    Raises:
        InvalidRequestError: there is no such output, or one is requested twice.
    """
    for name in names:
        if name != PROBABILITIES:
            meant = did_you_mean(name, [PROBABILITIES])
            raise InvalidRequestError(
                f"there is no output {truncated_repr(name)}{meant}", expected=f"'{PROBABILITIES}'"
            )
    if len(names) > 1:
        raise InvalidRequestError(f"output '{PROBABILITIES}' is requested {len(names)} times", expected="once")


def reject_shared_memory(parameters: Parameters, name: str) -> None:
    """Reject a tensor in shared memory.

    Raises:
        UnsupportedCallError: the tensor uses shared memory.
    """
    if parameters.get(SHARED_MEMORY) is not None:
        raise UnsupportedCallError(
            f"tensor '{name}' uses shared memory, which this server doesn't support",
            expected="the tensor's contents in the request",
        )


def _document(content: bytes | memoryview) -> RequestDocument:
    try:
        return RequestDocument.model_validate(parse_json(content, expected=EXPECTED_INPUT))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the request"
        message = "Input should be an object" if first["type"] in NO_OBJECT else first["msg"]
        raise InvalidRequestError(f"{where}: {message}") from None


def _is_length(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MAX_HEADER_LENGTH_DIGITS


def _header_length(text: str, body_length: int) -> int:
    if not _is_length(text) or int(text) > body_length:
        raise InvalidRequestError(
            f"{HEADER_LENGTH} = {truncated_repr(text)}",
            expected=f"the length of the JSON in bytes, at most the {body_length:,} bytes of the body",
        )
    return int(text)


def _raw_request(body: bytes) -> InferRequest:
    """Parse a body without JSON: raw pixels, whose length determines the number of images."""
    pixels = np.frombuffer(body, np.uint8) if body else np.zeros(0, np.uint8)
    return InferRequest(None, pixels, None, is_binary=False, timeout_s=None, is_without_shape=True)


def _contents(head: TensorHead, given: RequestInput, binary: memoryview, max_rows: int) -> Images | list[bytes]:
    reject_shared_memory(given.parameters, given.name)
    size = given.parameters.get(BINARY_SIZE)
    if size is None:
        if len(binary):
            raise InvalidRequestError(
                f"{len(binary):,} bytes follow the JSON, and input '{head.name}' has no {BINARY_SIZE}",
                expected=f"{BINARY_SIZE} in the input's parameters",
            )
        return images_from_values(head, given.data) if head.is_pixels else files_from_values(head, given.data)
    size = whole_number(size)
    if type(size) is not int or size != len(binary):
        raise InvalidRequestError(
            f"input '{head.name}' has {BINARY_SIZE} = {truncated_repr(size)}, and {len(binary):,} bytes follow the "
            "JSON",
            expected=f"as many bytes as {BINARY_SIZE} and the header {HEADER_LENGTH} say",
        )
    if given.data is not None:
        raise InvalidRequestError(f"input '{head.name}' has both 'data' and {BINARY_SIZE}", expected="one of them")
    return images_from_bytes(head, binary) if head.is_pixels else files_from_bytes(head, binary, max_rows=max_rows)


def _output(document: RequestDocument) -> tuple[int | None, bool]:
    asked, is_binary = None, None
    if document.outputs:
        check_output_names([output.name for output in document.outputs])
        parameters = document.outputs[0].parameters
        reject_shared_memory(parameters, PROBABILITIES)
        asked = parameters.get(CLASSIFICATION)
        is_binary = _flag(parameters, BINARY_OUTPUT)
    if is_binary is None and document.parameters:
        is_binary = _flag(document.parameters, BINARY_OUTPUTS)
    return None if asked is None else class_count(asked), is_binary or False


def _flag(parameters: Parameters, name: str) -> bool | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequestError(f"{name} = {truncated_repr(value)}", expected="true or false")
    return value


def infer_answer(request: InferRequest, inferred: Inferred) -> Answer:
    """Return the answer to a request."""
    output, content = _output_of(request, inferred)
    document: dict[str, Any] = {
        "model_name": inferred.version.name,
        "model_version": str(inferred.version.version),
        "parameters": {PRECISION: inferred.version.precision},
        "outputs": [output],
    }
    if request.id is not None:
        document["id"] = request.id
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if content is None:
        return Answer(head, JSON_HEADERS)
    return Answer(head + content, (BINARY_HEADER, (RAW_HEADER_LENGTH, b"%d" % len(head))))


def _output_of(request: InferRequest, inferred: Inferred) -> tuple[dict[str, Any], bytes | None]:
    """Return the output's JSON, and the binary data that follows the JSON."""
    probabilities = inferred.probabilities
    if request.classes is None:
        output = {"name": PROBABILITIES, "datatype": "FP32", "shape": list(probabilities.shape)}
        if not request.is_binary:
            return {**output, "data": np.ascontiguousarray(probabilities).ravel()}, None
        content = probabilities.astype("<f4", copy=False).tobytes()
    else:
        classes = min(request.classes, len(inferred.version.labels))
        texts = classifications(probabilities, inferred.version.labels, classes)
        output = {"name": PROBABILITIES, "datatype": "BYTES", "shape": [len(probabilities), classes]}
        if not request.is_binary:
            return {**output, "data": texts}, None
        content = bytes_of_elements(text.encode() for text in texts)
    return {**output, "parameters": {BINARY_SIZE: len(content)}}, content
