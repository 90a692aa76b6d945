"""From what the data plane answered to the body of an infer response: JSON, or JSON with the output behind it."""

from typing import Any, Final

import numpy as np
import orjson

from service.api.open_inference.infer_request import BINARY_SIZE, HEADER_LENGTH, InferRequest
from service.api.tensors import PROBABILITIES, bytes_of_elements, classifications
from service.core.pipeline import Inferred
from service.http.errors import JSON_HEADERS, Answer

BINARY_TYPE: Final = "application/octet-stream"
JSON_TYPE: Final = "application/json"
BINARY_HEADER: Final = (b"content-type", BINARY_TYPE.encode())
RAW_HEADER_LENGTH: Final = HEADER_LENGTH.lower().encode()


def infer_answer(request: InferRequest, inferred: Inferred) -> Answer:
    """The answer to a request."""
    output, content = _output(request, inferred)
    document: dict[str, Any] = {
        "model_name": inferred.version.name,
        "model_version": str(inferred.version.version),
        "outputs": [output],
    }
    if request.id is not None:
        document["id"] = request.id
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if content is None:
        return Answer(head, JSON_HEADERS)
    return Answer(head + content, (BINARY_HEADER, (RAW_HEADER_LENGTH, b"%d" % len(head))))


def _output(request: InferRequest, inferred: Inferred) -> tuple[dict[str, Any], bytes | None]:
    """The output as the JSON has it, and what follows the JSON."""
    probabilities = inferred.probabilities
    if request.classes is None:
        output = {"name": PROBABILITIES, "datatype": "FP32", "shape": list(probabilities.shape)}
        if not request.is_binary:
            return {**output, "data": np.ascontiguousarray(probabilities).ravel()}, None
        content = probabilities.astype("<f4", copy=False).tobytes()
    else:
        texts = classifications(probabilities, request.classes)
        output = {"name": PROBABILITIES, "datatype": "BYTES", "shape": [len(probabilities), request.classes]}
        if not request.is_binary:
            return {**output, "data": texts}, None
        content = bytes_of_elements(text.encode() for text in texts)
    return {**output, "parameters": {BINARY_SIZE: len(content)}}, content
