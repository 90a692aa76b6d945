"""Skims a protobuf message on disk without reading the contents of its fields.

This covers the part of the wire format (https://protobuf.dev/programming-guides/encoding) that TensorFlow's messages
need. The `protobuf` package would read the whole message, and a SavedModel is nearly all weights; TensorFlow's schemas
come with TensorFlow, which the service doesn't need.
"""

from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, NamedTuple, TypeVar

VARINT, FIXED_64, LENGTH, FIXED_32 = 0, 1, 2, 5
MAP_KEY, MAP_VALUE = 1, 2
BITS_PER_BYTE, LARGEST_VARINT_BITS = 7, 63
LARGEST_TAG: Final = 2**32 - 1
MAX_TEXT_BYTES: Final = 2**16

Value = TypeVar("Value")


class Field(NamedTuple):
    """A field of a message: its number, and its value, or its position and length."""

    number: int
    value: int
    length: int
    kind: int = LENGTH


def whole(size_bytes: int) -> Field:
    """Return the message that consists of a whole file of this size."""
    return Field(0, 0, size_bytes)


def messages(stream: BinaryIO, message: Field, number: int) -> Iterator[Field]:
    """Yield the fields of this number that are messages, text or bytes."""
    return (field for field in fields(stream, message) if (field.number, field.kind) == (number, LENGTH))


def entry(stream: BinaryIO, message: Field, read: Callable[[BinaryIO, Field], Value]) -> tuple[str, Value]:
    """Read an entry of a protobuf map from text to the result of `read`.

    Raises:
        ValueError: it is incomplete.
    """
    found = {field.number: field for field in fields(stream, message)}
    if not {MAP_KEY, MAP_VALUE} <= set(found):
        raise ValueError("an entry of a map is incomplete")
    return text(stream, found[MAP_KEY]), read(stream, found[MAP_VALUE])


def fields(stream: BinaryIO, message: Field) -> Iterator[Field]:
    """Yield the fields of a message.

    Raises:
        EOFError: it ends early.
        ValueError: it is not a message.
    """
    if message.kind != LENGTH:
        raise ValueError("a number where a message should be")
    position, end = message.value, message.value + message.length
    while position < end:
        stream.seek(position)
        tag = _varint(stream)
        if tag > LARGEST_TAG:  # other readers would truncate it to another field
            raise ValueError("a field's number is too large")
        number, kind = tag >> 3, tag & 7
        value, length = 0, 0
        if kind == VARINT:
            value = _varint(stream)
            position = stream.tell()
        elif kind == LENGTH:
            length = _varint(stream)
            value = stream.tell()
            position = value + length
        elif kind in (FIXED_64, FIXED_32):
            position = stream.tell() + (8 if kind == FIXED_64 else 4)
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        if position > end:
            raise EOFError("a field is longer than its message")
        yield Field(number, value, length, kind)


def text(stream: BinaryIO, field: Field) -> str:
    """Read a field's text.

    Raises:
        ValueError: it is too long, or not UTF-8.
    """
    if field.kind != LENGTH or field.length > MAX_TEXT_BYTES:
        raise ValueError("a name is not text, or too long")
    stream.seek(field.value)
    return stream.read(field.length).decode()


def _varint(stream: BinaryIO) -> int:
    value = 0
    for shift in range(0, LARGEST_VARINT_BITS + BITS_PER_BYTE, BITS_PER_BYTE):
        byte = stream.read(1)
        if not byte:
            raise EOFError("it ends in the middle of a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:  # noqa: PLR2004  # the bit that says whether more follow
            return value
    raise ValueError("a number that is too long")
