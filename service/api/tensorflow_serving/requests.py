"""From the JSON of TensorFlow Serving's requests to what the data plane takes.

Forms: https://www.tensorflow.org/tfx/serving/api_rest, "Predict API" (row and column format) and "Classify API".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any, Final, Literal

from catalog.close_match import did_you_mean
from catalog.labels import IMAGE_SHAPE
from catalog.metadata import SignatureSpec
from runtime.base import Images
from service.api.json_document import parse_json
from service.api.tensors import DATATYPES, IMAGES, TensorHead, decode_base64, images_from_values, shown
from service.errors import InvalidRequestError

DEFAULT_SIGNATURE: Final = "serving_default"
BASE64: Final = "b64"
FORMS: Final = ("instances", "inputs")
WAYS: Final = '{"instances": [image, …]} or {"inputs": [image, …]}; an image is 32x32x3 numbers, or {"b64": "…"}'
EXAMPLES_WAY: Final = '{"examples": [{"images": [3,072 numbers]}, …]}, or {"image_bytes": {"b64": "…"}} for a file'

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """What is to be predicted.

    Args:
        images: (rows, 32, 32, 3) uint8 RGB 0..255; None where there are files.
        files: encoded images; None where there are pixels.
        form: the key that the answer has its values under.
    """

    images: Images | None
    files: list[bytes] | None
    form: Literal["predictions", "outputs", "result"]

    @property
    def inputs(self) -> Images | list[bytes]:
        """The images, in the form that they came in."""
        return self.images if self.images is not None else self.files or []


def _document(body: bytes) -> Document:
    """The JSON of a request; members that are null are left out.

    Raises:
        InvalidRequestError: it is none, or no object.
    """
    document = parse_json(body, expected=WAYS)
    if not isinstance(document, dict):
        raise InvalidRequestError(f"the request is {shown(document)}", expected=f"an object: {WAYS}")
    return {name: value for name, value in document.items() if value is not None}


def predict_request(body: bytes, signatures: Sequence[SignatureSpec]) -> PredictRequest:
    """A `:predict` request, in row or column form.

    Args:
        body: the JSON.
        signatures: of the version that is asked.

    Raises:
        InvalidRequestError: naming what is wrong with it.
    """
    document = _document(body)
    name = _input_of(document, signatures)
    if ("instances" in document) == ("inputs" in document):
        both = "both" if "inputs" in document else "neither"
        meant = "" if "inputs" in document else _misspelt(document, FORMS)
        raise InvalidRequestError(f"the request has {both} of 'instances' and 'inputs'{meant}", expected=f"one: {WAYS}")
    if "instances" in document:
        return _read(name, _rows(name, document["instances"]), "predictions")
    given = document["inputs"]
    return _read(name, _named(name, given) if isinstance(given, dict) else given, "outputs")


def classify_request(body: bytes, signatures: Sequence[SignatureSpec]) -> PredictRequest:
    """A `:classify` request: examples with features, and a context that all of them share; otherwise the same.

    Raises:
        InvalidRequestError: naming what is wrong with it.
    """
    document = _document(body)
    name = _input_of(document, signatures)
    examples, context = document.get("examples"), document.get("context", {})
    if not isinstance(examples, list) or not isinstance(context, dict):
        meant = _misspelt(document, ["examples"])
        raise InvalidRequestError(f"the request has no list 'examples'{meant}", expected=EXAMPLES_WAY)
    features: list[Any] = []
    for index, example in enumerate(examples):
        feature = {**context, **example}.get(name) if isinstance(example, dict) else None
        if feature is None:
            raise InvalidRequestError(f"example {index} has no feature '{name}'", expected=EXAMPLES_WAY)
        features.append(feature)
    if name == IMAGES and _are_flat(features):
        flat = list(chain.from_iterable(features))
        return PredictRequest(images_from_values(_head(name, len(features)), flat), None, "result")
    return _read(name, features, "result")


def _misspelt(document: Document, known: Sequence[str]) -> str:
    """Say which member of a document may be meant to be one of the known ones, where one may."""
    return next((f": {shown(name)}{meant}" for name in document if (meant := did_you_mean(name, known))), "")


def _input_of(document: Document, signatures: Sequence[SignatureSpec]) -> str:
    """The name of the one input of the signature that is asked for."""
    asked = document.get("signature_name")
    if asked is None or asked == "":
        asked = DEFAULT_SIGNATURE
    for signature in signatures:
        if signature.name == asked:
            return signature.inputs[0].name
    names = [signature.name for signature in signatures]
    meant = did_you_mean(asked, names) if isinstance(asked, str) else ""
    raise InvalidRequestError(f"there is no signature {shown(asked)}{meant}", expected=f"one of {', '.join(names)}")


def _rows(name: str, instances: object) -> list[Any]:
    """The values of the rows, which may each name their input."""
    if not isinstance(instances, list):
        raise InvalidRequestError("'instances' is not a list", expected=WAYS)
    if not instances or not isinstance(instances[0], dict) or BASE64 in instances[0]:
        return instances
    return [_named(name, row) if isinstance(row, dict) else row for row in instances]


def _named(name: str, values: Document) -> Any:
    if set(values) != {name}:
        raise InvalidRequestError(
            f"the request has values for {shown(sorted(values))}{_misspelt(values, [name])}",
            expected=f"only the signature's input '{name}'",
        )
    return values[name]


def _read(name: str, values: object, form: Literal["predictions", "outputs", "result"]) -> PredictRequest:
    if not isinstance(values, list):
        raise InvalidRequestError(f"the values of '{name}' are not a list", expected=WAYS)
    head = _head(name, len(values))
    if head.is_pixels:
        return PredictRequest(images_from_values(head, values), None, form)
    return PredictRequest(
        None, [decode_base64(name, _base64(index, value)) for index, value in enumerate(values)], form
    )


def _base64(index: int, value: object) -> object:
    if not isinstance(value, dict) or set(value) != {BASE64}:
        raise InvalidRequestError(f"image {index} is {shown(value)}", expected='{"b64": "…"}: a file in base64')
    return value[BASE64]


def _head(name: str, rows: int) -> TensorHead:
    return TensorHead(name, DATATYPES[name], [rows, *IMAGE_SHAPE] if name == IMAGES else [rows])


def _are_flat(features: Sequence[object]) -> bool:
    """Whether each is a list of as many numbers as an image has."""
    return all(isinstance(feature, list) and len(feature) == prod(IMAGE_SHAPE) for feature in features)
