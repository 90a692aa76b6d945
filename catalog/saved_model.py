"""What a SavedModel says of its signatures, read from `saved_model.pb` without TensorFlow.

Skims the protobuf wire format (https://protobuf.dev/programming-guides/encoding) of TensorFlow's saved_model.proto and
meta_graph.proto, and passes over the graph, which is nearly all of the file.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, TypeVar

from catalog.artifact import SAVED_MODEL_FILE
from catalog.errors import ArtifactCorruptError, ArtifactMissingError

DATATYPES: Final = (
    "DT_INVALID", "DT_FLOAT", "DT_DOUBLE", "DT_INT32", "DT_UINT8", "DT_INT16", "DT_INT8", "DT_STRING",
    "DT_COMPLEX64", "DT_INT64", "DT_BOOL",
)  # fmt: skip
"""By number, as far as a signature of ours can have them (TensorFlow's types.proto)."""
VARINT, FIXED_64, LENGTH, FIXED_32 = 0, 1, 2, 5
META_GRAPH, SIGNATURES = 2, 5
INPUTS, OUTPUTS, METHOD_NAME = 1, 2, 3
TENSOR_NAME, TENSOR_DTYPE, TENSOR_SHAPE = 1, 2, 3
SHAPE_DIMENSION, SHAPE_UNKNOWN_RANK, DIMENSION_SIZE = 2, 3, 1
MAP_KEY, MAP_VALUE = 1, 2
BITS_PER_BYTE, LARGEST_VARINT_BITS = 7, 63

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class SignatureTensor:
    """A tensor of a signature; `shape` is None where even the number of dimensions is unknown, -1 is any size."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature: its tensors by the names that requests use."""

    inputs: dict[str, SignatureTensor]
    outputs: dict[str, SignatureTensor]
    method_name: str


class _Field(NamedTuple):
    """A field of a message: its number, and its value, or where it lies and how long it is."""

    number: int
    value: int
    length: int


def read_signatures(folder: Path) -> dict[str, Signature]:
    """The signatures of a version's SavedModel, by name.

    Raises:
        ArtifactMissingError: there is no saved_model.pb.
        ArtifactCorruptError: it is no SavedModel.
    """
    file = folder / SAVED_MODEL_FILE
    try:
        with file.open("rb") as stream:
            whole = _Field(0, 0, file.stat().st_size)
            graphs = [field for field in _fields(stream, whole) if field.number == META_GRAPH]
            entries = [field for graph in graphs[:1] for field in _fields(stream, graph) if field.number == SIGNATURES]
            return dict(sorted(_entry(stream, entry, _signature) for entry in entries))
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactMissingError(f"{file} is not there", remedy="restore the version") from None
    except (EOFError, ValueError) as error:
        raise ArtifactCorruptError(f"{file} is no SavedModel: {error}", remedy="restore the version") from None


def _signature(stream: BinaryIO, message: _Field) -> Signature:
    tensors: dict[int, dict[str, SignatureTensor]] = {INPUTS: {}, OUTPUTS: {}}
    method_name = ""
    for field in _fields(stream, message):
        if field.number in tensors:
            name, tensor = _entry(stream, field, _tensor)
            tensors[field.number][name] = tensor
        elif field.number == METHOD_NAME:
            method_name = _text(stream, field)
    return Signature(tensors[INPUTS], tensors[OUTPUTS], method_name)


def _tensor(stream: BinaryIO, message: _Field) -> SignatureTensor:
    name, dtype = "", 0
    shape: tuple[int, ...] | None = ()
    for field in _fields(stream, message):
        if field.number == TENSOR_NAME:
            name = _text(stream, field)
        elif field.number == TENSOR_DTYPE:
            dtype = field.value
        elif field.number == TENSOR_SHAPE:
            shape = _shape(stream, field)
    return SignatureTensor(name, DATATYPES[dtype] if dtype < len(DATATYPES) else f"DT_{dtype}", shape)


def _shape(stream: BinaryIO, message: _Field) -> tuple[int, ...] | None:
    fields = list(_fields(stream, message))
    if any(field.number == SHAPE_UNKNOWN_RANK and field.value for field in fields):
        return None
    dimensions = [field for field in fields if field.number == SHAPE_DIMENSION]
    return tuple(_dimension(stream, dimension) for dimension in dimensions)


def _dimension(stream: BinaryIO, message: _Field) -> int:
    size = next((field.value for field in _fields(stream, message) if field.number == DIMENSION_SIZE), 0)
    return size - (1 << 64) if size >= 1 << 63 else size


def _entry(stream: BinaryIO, message: _Field, read: Callable[[BinaryIO, _Field], Value]) -> tuple[str, Value]:
    """An entry of a protobuf map."""
    fields = {field.number: field for field in _fields(stream, message)}
    if not {MAP_KEY, MAP_VALUE} <= set(fields):
        raise ValueError("an entry of a map is not whole")
    return _text(stream, fields[MAP_KEY]), read(stream, fields[MAP_VALUE])


def _fields(stream: BinaryIO, message: _Field) -> Iterator[_Field]:
    """The fields of a message, without reading what is in them."""
    position, end = message.value, message.value + message.length
    while position < end:
        stream.seek(position)
        tag = _varint(stream)
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
            raise EOFError("a field is longer than what it is in")
        yield _Field(number, value, length)


def _varint(stream: BinaryIO) -> int:
    value = 0
    for shift in range(0, LARGEST_VARINT_BITS + BITS_PER_BYTE, BITS_PER_BYTE):
        byte = stream.read(1)
        if not byte:
            raise EOFError("it ends within a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:  # noqa: PLR2004  # the bit that says whether more follow
            return value
    raise ValueError("a number that is too long")


def _text(stream: BinaryIO, field: _Field) -> str:
    stream.seek(field.value)
    return stream.read(field.length).decode()
