"""The content of V1 and V2 requests: lenient JSON, and tensors in all their forms (values, raw bytes, encoded files).

The module is independent of HTTP and gRPC. Everything invalid is an `InvalidRequestError` that describes it. As many
languages write them, JSON may have a byte order mark, null for missing values, and 1.0 for 1.
"""

import codecs
import struct
from binascii import a2b_base64
from collections.abc import Iterable, Sequence
from itertools import chain
from math import prod
from typing import Any, Final, NamedTuple, cast

import numpy as np
import orjson

from cifar10_serving.artifacts.metadata import CHANNELS, IMAGES, MAX_CLASSES, MAX_DIMENSIONS
from cifar10_serving.runtimes.base import Images, Probabilities
from cifar10_serving.text import did_you_mean
from service.errors import InvalidRequestError
from service.inference.pipeline import check_rows, top_classes

OTHER_ENCODINGS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

IMAGE_BYTES: Final = "image_bytes"
DATATYPES: Final = {IMAGES: "UINT8", IMAGE_BYTES: "BYTES"}
MAX_SHOWN_CHARACTERS: Final = 60
EXPECTED_INPUT: Final = (
    f"one input: '{IMAGES}', UINT8 [n, height, width, {CHANNELS}], RGB 0..255; or '{IMAGE_BYTES}', BYTES [n], PNG or "
    "JPEG files"
)
EXPECTED_VALUES: Final = "whole numbers from 0 to 255, in one flat list or nested as the shape says"
EXPECTED_BASE64: Final = "base64 strings, in one flat list or nested as the shape says"
DATA_URL: Final = "is a data URL; only the part after its comma is base64"
URL_SAFE: Final = str.maketrans("-_", "+/")
ELEMENT_LENGTH: Final = struct.Struct("<I")


def parse_json(content: bytes | memoryview, *, expected: str) -> Any:
    """Return the value in a request's JSON.

    Args:
        content: the JSON in UTF-8; a byte order mark is ignored.
        expected: a description of the expected request, for the error.

    Raises:
        InvalidRequestError: it is not JSON.
    """
    if bytes(content[:3]) == codecs.BOM_UTF8:
        content = content[3:]
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        if bytes(content[:2]) in OTHER_ENCODINGS:
            raise InvalidRequestError("the request is UTF-16, not JSON in UTF-8", expected=expected) from None
        raise InvalidRequestError(f"the request is not JSON: {error}", expected=expected) from None


def whole_number(value: object) -> object:
    """Return a float without a fraction as an integer; return all other values unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class TensorHead(NamedTuple):
    """The description of an input tensor, without its contents; made and validated by `tensor_head`.

    `elements` is the number of numbers, or of files; `is_pixels` is False for encoded files.
    """

    name: str
    datatype: str
    shape: Sequence[int]
    elements: int
    is_pixels: bool

    @property
    def rows(self) -> int:
        """Number of images."""
        return self.shape[0]


def tensor_head(name: str, datatype: str, shape: Sequence[int]) -> TensorHead:
    """Return the description of an input tensor, validated.

    Raises:
        InvalidRequestError: the models have no such input.
    """
    if name not in DATATYPES:
        meant = did_you_mean(name, DATATYPES)
        raise InvalidRequestError(f"there is no input {truncated_repr(name)}{meant}", expected=EXPECTED_INPUT)
    if datatype != DATATYPES[name]:
        raise InvalidRequestError(
            f"input '{name}' has the datatype {truncated_repr(datatype)}", expected=EXPECTED_INPUT
        )
    is_pixels = name == IMAGES
    is_legal = 0 < len(shape) <= MAX_DIMENSIONS and min(shape) >= 0
    if not is_pixels:
        is_legal = is_legal and tuple(shape[1:]) in ((), (1,))
    if not is_legal:
        raise wrong_shape(name, shape, EXPECTED_INPUT)
    return TensorHead(name, datatype, shape, prod(shape), is_pixels)


def images_from_bytes(head: TensorHead, content: bytes | memoryview) -> Images:
    """Return the images in raw bytes, row-major, of any shape, without copying them.

    Raises:
        InvalidRequestError: the number of bytes does not match the shape.
    """
    if len(content) != head.elements:
        raise InvalidRequestError(
            f"input '{head.name}' has {len(content):,} bytes of data",
            expected=f"{head.elements:,} bytes, as the shape {list(head.shape)} says",
        )
    try:
        return np.frombuffer(content, np.uint8).reshape(head.shape)
    except ValueError:  # no bytes, and huge dimensions
        raise wrong_shape(head.name, head.shape, EXPECTED_INPUT) from None


def wrong_shape(name: str, shape: Sequence[int], expected: str) -> InvalidRequestError:
    """Return the error of an input that has a shape which is not taken."""
    return InvalidRequestError(f"input '{name}' has the shape {truncated_repr(list(shape))}", expected=expected)


def images_from_values(head: TensorHead, values: object) -> Images:
    """Return the images in numbers, flat or nested.

    Raises:
        InvalidRequestError: they don't match the shape, or are not whole numbers from 0 to 255.
    """
    flat = _flatten(head, values, EXPECTED_VALUES)
    try:
        try:
            content = bytes(cast("list[int]", flat))
        except TypeError:  # some are floats, such as 255.0 and 1e2
            content = bytes(cast("list[int]", [whole_number(value) for value in flat]))
        return images_from_bytes(head, content)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"input '{head.name}': {error}", expected=EXPECTED_VALUES) from None


def files_from_bytes(head: TensorHead, content: bytes | memoryview, *, max_rows: int) -> list[bytes]:
    """Return the files in raw bytes: each is its length (4 bytes, little-endian) and its content.

    Raises:
        InvalidRequestError: the lengths don't add up, or the number of files does not match the shape.
        TooLargeError: there are more than `max_rows`; raised before any of them is examined.
    """
    if head.elements * ELEMENT_LENGTH.size > len(content):
        raise InvalidRequestError(
            f"input '{head.name}' has {len(content):,} bytes of data",
            expected=f"{head.elements:,} elements, as the shape {list(head.shape)} says",
        )
    check_rows(head.rows, max_rows)
    files: list[bytes] = []
    position = 0
    while position < len(content):
        if len(files) == head.elements:
            raise _other_number(head, f"more than {head.elements:,}")
        start = position + ELEMENT_LENGTH.size
        if start > len(content):
            raise InvalidRequestError(f"input '{head.name}' is truncated in the length of element {len(files)}")
        (length,) = ELEMENT_LENGTH.unpack_from(content, position)
        position = start + length
        if position > len(content):
            raise InvalidRequestError(
                f"element {len(files)} of input '{head.name}' has a length of {length:,} bytes",
                expected=f"at most the {len(content) - start:,} bytes that are left",
            )
        files.append(bytes(content[start:position]))
    check_elements(head, len(files))
    return files


def files_from_values(head: TensorHead, values: object) -> list[bytes]:
    """Return the files in base64 strings, flat or nested.

    Raises:
        InvalidRequestError: they don't match the shape, or are not base64.
    """
    return [decode_base64(head.name, text) for text in _flatten(head, values, EXPECTED_BASE64)]


def decode_base64(name: str, text: object) -> bytes:
    """Decode a file from base64.

    Args:
        name: name of the input, for the error.

    Raises:
        InvalidRequestError: it is not a string of base64.
    """
    if not isinstance(text, str):
        raise _no_base64(name, f"is {truncated_repr(text)}")
    try:
        return a2b_base64(text, strict_mode=True)
    except ValueError:  # binascii.Error is one; it may be another variant of base64
        pass
    try:
        return _decode_other_base64(text)
    except ValueError as error:
        raise _no_base64(name, DATA_URL if text.startswith("data:") else f"can't be decoded: {error}") from None


def _decode_other_base64(text: str) -> bytes:
    """Decode base64 with line breaks (MIME's have 76 characters), without padding, or in the URL-safe alphabet.

    TensorFlow Serving accepts the first two. Spare bits of the last character that aren't 0 are accepted as well.
    """
    plain = "".join(text.split()).translate(URL_SAFE).rstrip("=")
    return a2b_base64(f"{plain}{'=' * (-len(plain) % 4)}", strict_mode=True)


def _no_base64(name: str, problem: str) -> InvalidRequestError:
    return InvalidRequestError(f"an element of input '{name}' {problem}", expected=EXPECTED_BASE64)


def check_elements(head: TensorHead, elements: int) -> None:
    """Check that the number of elements matches the shape.

    Raises:
        InvalidRequestError: it does not.
    """
    if elements != head.elements:
        raise _other_number(head, f"{elements:,}")


def bytes_of_elements(elements: Iterable[bytes]) -> bytes:
    """Return a BYTES tensor in raw form: each element is its length and its content."""
    return b"".join(ELEMENT_LENGTH.pack(len(element)) + element for element in elements)


def classifications(probabilities: Probabilities, labels: Sequence[str], classes: int) -> list[str]:
    """Return the best classes of each row in Triton's form "value:index:label", all rows in sequence.

    Args:
        labels: the labels of the classes.
        classes: number of classes per row, from 1.

    https://docs.nvidia.com/deeplearning/triton-inference-server, "Classification Extension"
    """
    return [
        f"{value:.6f}:{index}:{labels[index]}" for row in probabilities for index, value in top_classes(row, classes)
    ]


def class_count(asked: object) -> int:
    """Return the number of classes in the parameter `classification`; larger numbers mean all, as with Triton.

    Raises:
        InvalidRequestError: it is not a whole number above 0.
    """
    asked = whole_number(asked)
    if type(asked) is not int or asked < 1:
        raise InvalidRequestError(
            f"classification = {truncated_repr(asked)}", expected="a whole number, 1 to the number of classes"
        )
    return min(asked, MAX_CLASSES)


def truncated_repr(value: object) -> str:
    """Return a value from a request in a form for errors."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…"


def _flatten(head: TensorHead, values: object, expected: str) -> list[object]:
    """Return the elements of a flat or nested list that matches the shape; processes whole levels instead of rows."""
    if not isinstance(values, list):
        raise InvalidRequestError(f"the values of input '{head.name}' are not a list", expected=expected)
    if len(values) == head.elements and not (values and isinstance(values[0], list)):
        return values
    level: list[object] = [values]
    for depth, size in enumerate(head.shape):
        lists = cast("list[list[object]]", level)
        if set(map(type, level)) != {list} or set(map(len, lists)) != {size}:
            raise InvalidRequestError(
                f"the values of input '{head.name}' don't have the shape {list(head.shape)} at depth {depth}",
                expected=f"{head.elements:,} elements: {expected}",
            )
        level = list(chain.from_iterable(lists))
    return level


def _other_number(head: TensorHead, elements: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"input '{head.name}' has {elements} elements",
        expected=f"{head.elements:,}, as the shape {list(head.shape)} says",
    )
