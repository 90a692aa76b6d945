"""The signatures of a SavedModel, read from `saved_model.pb` without TensorFlow.

Based on TensorFlow's saved_model.proto and meta_graph.proto; the graph, nearly all of the file, is skipped.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from cifar10_serving.artifacts.files import open_regular
from cifar10_serving.artifacts.metadata import SAVED_MODEL_FILE, ModelMetadata, TensorSpec
from cifar10_serving.artifacts.wire_format import Field, entry, fields, messages, text, whole
from cifar10_serving.errors import ArtifactCorruptError, ArtifactMissingError

DATATYPES: Final = (
    "DT_INVALID", "DT_FLOAT", "DT_DOUBLE", "DT_INT32", "DT_UINT8", "DT_INT16", "DT_INT8", "DT_STRING",
    "DT_COMPLEX64", "DT_INT64", "DT_BOOL",
)  # fmt: skip
"""TensorFlow's types by number, as far as our signatures can have them (types.proto)."""
META_GRAPH, SIGNATURES = 2, 5
INPUTS, OUTPUTS, METHOD_NAME = 1, 2, 3
TENSOR_NAME, TENSOR_DTYPE, TENSOR_SHAPE = 1, 2, 3
SHAPE_DIMENSION, SHAPE_UNKNOWN_RANK, DIMENSION_SIZE = 2, 3, 1


@dataclass(frozen=True, slots=True)
class SignatureTensor:
    """A tensor of a signature; `shape` is None if even the number of dimensions is unknown; -1 is any size."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature: its tensors by the names that requests use."""

    inputs: dict[str, SignatureTensor]
    outputs: dict[str, SignatureTensor]
    method_name: str


PREDICT: Final = "tensorflow/serving/predict"
SPEC_DATATYPES: Final = {"float32": "DT_FLOAT", "string": "DT_STRING", "uint8": "DT_UINT8"}


def signatures_of(folder: Path, metadata: ModelMetadata) -> dict[str, Signature]:
    """Return the signatures of a version, by name: those of its SavedModel, or without one those in its metadata.

    Raises:
        ArtifactCorruptError: the SavedModel is not one.
        ArtifactMissingError: the SavedModel is not there.
    """
    if SAVED_MODEL_FILE in metadata.network_files:
        return read_signatures(folder)
    return {
        known.name: Signature(_described(known.inputs), _described(known.outputs), PREDICT)
        for known in metadata.signatures
    }


def _described(tensors: list[TensorSpec]) -> dict[str, SignatureTensor]:
    return {
        tensor.name: SignatureTensor(f"{tensor.name}:0", SPEC_DATATYPES[tensor.dtype], tuple(tensor.shape))
        for tensor in tensors
    }


def read_signatures(folder: Path) -> dict[str, Signature]:
    """Return the signatures of a version's SavedModel, by name.

    Raises:
        ArtifactMissingError: there is no saved_model.pb.
        ArtifactCorruptError: it is not a SavedModel.
    """
    with open_saved_model(folder) as (stream, message):
        graphs = list(messages(stream, message, META_GRAPH))
        entries = [field for graph in graphs[:1] for field in messages(stream, graph, SIGNATURES)]
        return dict(sorted(entry(stream, field, _signature) for field in entries))


@contextmanager
def open_saved_model(folder: Path) -> Iterator[tuple[BinaryIO, Field]]:
    """Open the SavedModel of a version, and report format errors of the reader.

    Raises:
        ArtifactMissingError: there is no saved_model.pb.
        ArtifactCorruptError: it is not a SavedModel.
    """
    file = folder / SAVED_MODEL_FILE
    try:
        with open_regular(folder, SAVED_MODEL_FILE) as stream:
            yield stream, whole(os.fstat(stream.fileno()).st_size)
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactMissingError(f"{file} is not there", remedy="restore the version") from None
    except OSError as error:
        raise ArtifactCorruptError(f"{file} can't be read: {error.strerror}", remedy="restore the version") from None
    except (EOFError, ValueError) as error:
        raise ArtifactCorruptError(f"{file} is not a SavedModel: {error}", remedy="restore the version") from None


def _signature(stream: BinaryIO, message: Field) -> Signature:
    tensors: dict[int, dict[str, SignatureTensor]] = {INPUTS: {}, OUTPUTS: {}}
    method_name = ""
    for field in fields(stream, message):
        if field.number in tensors:
            name, tensor = entry(stream, field, _tensor)
            tensors[field.number][name] = tensor
        elif field.number == METHOD_NAME:
            method_name = text(stream, field)
    return Signature(tensors[INPUTS], tensors[OUTPUTS], method_name)


def _tensor(stream: BinaryIO, message: Field) -> SignatureTensor:
    name, dtype = "", 0
    shape: tuple[int, ...] | None = ()
    for field in fields(stream, message):
        if field.number == TENSOR_NAME:
            name = text(stream, field)
        elif field.number == TENSOR_DTYPE:
            dtype = field.value
        elif field.number == TENSOR_SHAPE:
            shape = _shape(stream, field)
    return SignatureTensor(name, DATATYPES[dtype] if dtype < len(DATATYPES) else f"DT_{dtype}", shape)


def _shape(stream: BinaryIO, message: Field) -> tuple[int, ...] | None:
    found = list(fields(stream, message))
    if any(field.number == SHAPE_UNKNOWN_RANK and field.value for field in found):
        return None
    dimensions = [field for field in found if field.number == SHAPE_DIMENSION]
    return tuple(_dimension(stream, dimension) for dimension in dimensions)


def _dimension(stream: BinaryIO, message: Field) -> int:
    size = next((field.value for field in fields(stream, message) if field.number == DIMENSION_SIZE), 0)
    return size - (1 << 64) if size >= 1 << 63 else size
