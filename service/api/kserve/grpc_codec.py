"""The Open Inference Protocol's gRPC messages, converted from and to the types of REST (`api.kserve.codec`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from cifar10_serving.artifacts.metadata import PROBABILITIES
from cifar10_serving.runtimes.base import Images
from service.api.kserve.codec import (
    CLASSIFICATION,
    PRECISION,
    InferRequest,
    Parameters,
    check_output_names,
    reject_shared_memory,
    timeout_of,
)
from service.api.kserve.generated import open_inference_pb2 as pb2
from service.api.tensors import (
    EXPECTED_INPUT,
    TensorHead,
    bytes_of_elements,
    check_elements,
    class_count,
    classifications,
    files_from_bytes,
    images_from_bytes,
    images_from_values,
    tensor_head,
)
from service.errors import InvalidRequestError
from service.inference.pipeline import Inferred, check_rows

FIELDS: Final = pb2.ModelInferRequest.DESCRIPTOR.fields_by_name
ID: Final = FIELDS["id"].number
RAW_CONTENTS: Final = FIELDS["raw_input_contents"].number
MAX_FIELDS: Final = 64
"""Number of fields to examine. Legitimate messages have fewer; everything after counts as expensive."""
LENGTH_DELIMITED: Final = 2
LAST_BYTE_BELOW: Final = 0x80
VARINT_BYTES: Final = 10
CONTENTS_OF: Final = {"UINT8": "uint_contents", "BYTES": "bytes_contents"}


class ParseEstimate(NamedTuple):
    """The id of a message (empty if none was found), and the number of bytes that are expensive to parse.

    `parse_cost_bytes` excludes raw contents, which are only copied.
    """

    id: str
    parse_cost_bytes: int


def estimate_parse(content: bytes) -> ParseEstimate:
    """Return the parse estimate of a message, which may be malformed."""
    request_id, raw_bytes, position = "", 0, 0
    for _ in range(MAX_FIELDS):
        key, start = _varint(content, position)
        if key & 7 != LENGTH_DELIMITED:
            break  # the end, or not a valid message: it has no other fields
        length, start = _varint(content, start)
        position = start + length
        if position > len(content):
            break
        if key >> 3 == RAW_CONTENTS:
            raw_bytes += length
        elif key >> 3 == ID:
            request_id = content[start:position].decode(errors="replace")
    return ParseEstimate(request_id, len(content) - raw_bytes)


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """Return the number at a position and the position after it; 0 for the latter if there is none."""
    value = 0
    for index, byte in enumerate(content[position : position + VARINT_BYTES]):
        value |= (byte & (LAST_BYTE_BELOW - 1)) << (7 * index)
        if byte < LAST_BYTE_BELOW:
            return value, position + index + 1
    return 0, position


@dataclass(frozen=True, slots=True)
class InferMessage:
    """A `ModelInferRequest`: the model and version as the message names them, and the request."""

    model: str
    version: str
    request: InferRequest


def read_message(kind: Any, content: bytes) -> Any:
    """Parse a message of a type.

    Raises:
        InvalidRequestError: it is not such a message.
    """
    try:
        return kind.FromString(content)
    except DecodeError:
        raise InvalidRequestError(
            f"the {len(content):,} bytes of the request are not a message of type {kind.DESCRIPTOR.full_name}",
            expected="that message, encoded as protobuf",
        ) from None


def read_infer_message(content: bytes, *, max_rows: int) -> InferMessage:
    """Parse a `ModelInferRequest`.

    Args:
        max_rows: maximum number of images.

    Raises:
        InvalidRequestError: the request is not valid.
        TooLargeError: there are too many images.
        UnsupportedCallError: a tensor uses shared memory.
    """
    message = read_message(pb2.ModelInferRequest, content)
    if len(message.inputs) != 1:
        raise InvalidRequestError(f"the request has {len(message.inputs)} inputs", expected=EXPECTED_INPUT)
    (given,) = message.inputs
    reject_shared_memory(_parameters(given.parameters), given.name)
    head = tensor_head(given.name, given.datatype, list(given.shape))
    inputs = _contents(head, given, message.raw_input_contents, max_rows)
    asked = None
    if message.outputs:
        check_output_names([output.name for output in message.outputs])
        output_parameters = _parameters(message.outputs[0].parameters)
        reject_shared_memory(output_parameters, PROBABILITIES)
        asked = output_parameters.get(CLASSIFICATION)
    request = InferRequest(
        id=message.id,
        inputs=inputs,
        classes=None if asked is None else class_count(asked),
        is_binary=bool(message.raw_input_contents),  # those of the answer are raw where the request's are
        timeout_s=timeout_of(_parameters(message.parameters)),
    )
    return InferMessage(message.model_name, message.model_version, request)


def infer_response(request: InferRequest, inferred: Inferred) -> Any:
    """Return the `ModelInferResponse` to a request."""
    probabilities = inferred.probabilities
    message = pb2.ModelInferResponse(
        model_name=inferred.version.name, model_version=str(inferred.version.version), id=request.id
    )
    message.parameters[PRECISION].string_param = inferred.version.precision or ""
    output = message.outputs.add(name=PROBABILITIES)
    if request.classes is None:
        output.datatype = "FP32"
        output.shape.extend(probabilities.shape)
        if request.is_binary:
            message.raw_output_contents.append(probabilities.astype("<f4", copy=False).tobytes())
        else:
            output.contents.fp32_contents.extend(probabilities.ravel().tolist())
        return message
    classes = min(request.classes, len(inferred.version.labels))
    texts = [text.encode() for text in classifications(probabilities, inferred.version.labels, classes)]
    output.datatype = "BYTES"
    output.shape.extend((len(probabilities), classes))
    if request.is_binary:
        message.raw_output_contents.append(bytes_of_elements(texts))
    else:
        output.contents.bytes_contents.extend(texts)
    return message


def _contents(head: TensorHead, given: Any, raw: Any, max_rows: int) -> Images | list[bytes]:
    """Return the input's images or files, from raw or typed contents."""
    if raw and (len(raw) != 1 or given.HasField("contents")):
        raise InvalidRequestError(
            f"the request has {len(raw)} raw_input_contents and {'' if given.HasField('contents') else 'no '}contents",
            expected="one raw_input_contents for the input, or contents in the input",
        )
    if raw:
        return images_from_bytes(head, raw[0]) if head.is_pixels else files_from_bytes(head, raw[0], max_rows=max_rows)
    expected = CONTENTS_OF[head.datatype]
    foreign = [field.name for field, _ in given.contents.ListFields() if field.name != expected]
    if foreign:
        raise InvalidRequestError(
            f"input '{head.name}' has {foreign[0]}", expected=f"{expected}, the field for {head.datatype}"
        )
    values = getattr(given.contents, expected)
    check_elements(head, len(values))
    check_rows(head.rows, max_rows)
    return images_from_values(head, list(values)) if head.is_pixels else list(values)


def _parameters(parameters: Mapping[str, Any]) -> Parameters:
    if not parameters:
        return {}
    return {
        name: getattr(value, value.WhichOneof("parameter_choice") or "", None) for name, value in parameters.items()
    }
