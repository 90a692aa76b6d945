"""Open an ONNX model with OpenVINO, and write it in OpenVINO's own format (IR).

ONNX is data: OpenVINO knows each operation or rejects the file. Weights may be in further files beside it, which the
file names; names that lead out of the folder are rejected before anything reads them.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops

from cifar10_serving.artifacts.metadata import (
    IMAGES,
    IR_FILE,
    PROBABILITIES,
    Parameters,
    Precision,
    SourceKind,
)
from cifar10_serving.artifacts.wire_format import LENGTH, Field, fields, messages, text, whole
from cifar10_serving.runtimes.base import Runtime
from cifar10_serving.runtimes.openvino import OpenVinoRuntime, has_bfloat16
from cifar10_serving.text import printable
from training.errors import ModelImportError
from training.importing.source import Size, SourceInput, image_input, only_one, output_count
from training.importing.tensorflow_graph import one_line
from training.importing.wrapping import Wrapping
from training.preprocessing import SCALINGS

# onnx.proto
MODEL_GRAPH, GRAPH_NODE, GRAPH_INITIALIZER, NODE_ATTRIBUTE = 7, 1, 5, 5
ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = (5, 10), (6, 11)
TENSOR_EXTERNAL, ENTRY_KEY, ENTRY_VALUE = 13, 1, 2
LOCATION: Final = "location"
MAX_GRAPH_DEPTH: Final = 16
TYPES: Final = {"f32": "float32", "f16": "float16", "f64": "float64", "bf16": "bfloat16", "u8": "uint8"}
CHANNEL_AXIS: Final = 3


class OnnxSource:
    """An opened model; see `training.importing.source.Source`."""

    kind: SourceKind = "onnx"

    def __init__(self, file: Path, image_size: Size | None) -> None:
        self._core = openvino.Core()
        self._file = file
        model = self._read()
        only_one([_name(port) for port in model.inputs], "input")
        only_one([_name(port) for port in model.outputs], "output")
        self._type = model.input(0).get_element_type()
        self.input: SourceInput = image_input(
            _sizes(model.input(0).partial_shape), TYPES.get(self._type.get_type_name(), "unknown"), image_size, "NCHW"
        )
        if self.input.dtype == "unknown":
            raise ModelImportError(
                f"its input has the type {self._type.get_type_name()}", expected="float32 or uint8 pixels"
            )
        self._model = self._with_any_batch(model)
        self.output_count = output_count(_sizes(self._model.output(0).partial_shape))
        self.parameters = _parameters(self._model)
        self.architecture = f"ONNX graph '{printable(self._model.get_friendly_name())}', imported"[:200]
        self.scales_itself = self.input.scales_itself
        self._compiled: openvino.CompiledModel | None = None

    def outputs(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute outputs; see `training.importing.source.Source.outputs`."""
        try:
            if self._compiled is None:
                settings = {"INFERENCE_PRECISION_HINT": openvino.Type.f32, "PERFORMANCE_HINT": "LATENCY"}
                self._compiled = self._core.compile_model(self._model, "CPU", settings)
            values = pixels.transpose(0, 3, 1, 2) if self.input.layout == "NCHW" else pixels
            values = np.rint(values) if self._type == openvino.Type.u8 else values
            values = np.ascontiguousarray(values.astype(self._type.to_dtype()))
            answers = np.array(self._compiled([values])[0], np.float32)
        except (RuntimeError, ValueError) as error:
            raise self._of_one_image(one_line(error)) from None
        if answers.shape != (len(pixels), self.output_count):
            raise self._of_one_image(f"{len(pixels)} images give answers of the shape {answers.shape}")
        return answers

    def writer(self, wrapping: Wrapping) -> Callable[[Path], None]:
        """Return a function that writes the IR with preprocessing in the graph."""

        def write(folder: Path) -> None:
            (folder / IR_FILE).parent.mkdir(parents=True, exist_ok=True)
            try:
                openvino.save_model(self._wrapped(wrapping), folder / IR_FILE, compress_to_fp16=True)
            except RuntimeError as error:
                raise OSError(one_line(error)) from None

        return write

    def runtimes(self) -> list[Runtime]:
        """Return OpenVINO in each precision of this CPU."""
        precisions: list[Precision] = ["float32", "bfloat16"] if has_bfloat16() else ["float32"]
        return [OpenVinoRuntime(precision) for precision in precisions]

    def _read(self) -> Any:
        try:
            return self._core.read_model(self._file)
        except RuntimeError as error:
            raise ModelImportError(
                f"OpenVINO {openvino.__version__.split('-')[0]} can't read {self._file} as ONNX: {_reason(error)}",
                expected="an ONNX file with operations that OpenVINO knows",
                remedy="export it again with standard operations, and copy its external data beside it",
            ) from None

    def _with_any_batch(self, model: Any) -> Any:
        height, width = self.input.size
        shape = [-1, 3, height, width] if self.input.layout == "NCHW" else [-1, height, width, 3]
        try:
            model.reshape(openvino.PartialShape(shape))
        except RuntimeError as error:
            raise self._of_one_image(_reason(error)) from None
        return model

    def _of_one_image(self, reason: str) -> ModelImportError:
        return ModelImportError(
            f"OpenVINO can't compute {self._file} for batches of {self.input.size[0]}x{self.input.size[1]} pixels: "
            f"{reason}",
            expected="a model that takes batches of any size",
            remedy="export it with a dynamic batch dimension: dynamic_axes or dynamic_shapes of torch.onnx.export",
        )

    def _wrapped(self, wrapping: Wrapping) -> Any:
        model = self._with_any_batch(self._read())
        affine = SCALINGS[wrapping.scaling]
        height, width, channels = wrapping.input_shape
        images = ops.parameter(openvino.PartialShape([-1, height, width, channels]), openvino.Type.u8, name=IMAGES)
        pixels = ops.convert(images, "f32")
        if any(affine.mean):
            pixels = ops.subtract(pixels, np.array(affine.mean, np.float32))
        if set(affine.deviation) != {1.0}:
            pixels = ops.divide(pixels, np.array(affine.deviation, np.float32))
        if affine.bgr:
            pixels = ops.gather(pixels, np.array([2, 1, 0], np.int64), np.array(CHANNEL_AXIS, np.int64))
        if self.input.layout == "NCHW":
            pixels = ops.transpose(pixels, np.array([0, 3, 1, 2], np.int64))
        if self._type != openvino.Type.f32:
            pixels = ops.convert(pixels, self._type.get_type_name())
        parameter, result = model.get_parameters()[0], model.get_results()[0]
        parameter.output(0).replace(pixels.output(0))
        probabilities = _probabilities(ops.convert(result.input_value(0), "f32"), wrapping)
        probabilities.output(0).get_tensor().set_names({PROBABILITIES})
        images.output(0).get_tensor().set_names({IMAGES})
        return openvino.Model([ops.result(probabilities, name=PROBABILITIES)], [images], "classifier")


def open_onnx_file(file: Path, image_size: Size | None) -> OnnxSource:
    """Open an ONNX model.

    Raises:
        ModelImportError: it is not ONNX, reads files elsewhere, or is not a classifier of images.
    """
    try:
        with file.open("rb") as stream:
            _check_external_data(stream, whole(os.fstat(stream.fileno()).st_size), file.parent)
    except (EOFError, ValueError) as error:
        raise ModelImportError(
            f"{file} is not an ONNX file: {one_line(error)}",
            expected="a .keras, .h5 or .onnx file, or the folder of a SavedModel",
        ) from None
    except OSError as error:
        raise ModelImportError(f"{file} can't be read: {error.strerror}") from None
    return OnnxSource(file, image_size)


def external_files(file: Path) -> list[str]:
    """Return the names of the files with an ONNX model's weights, sorted."""
    with file.open("rb") as stream:
        return sorted(set(_locations(stream, whole(os.fstat(stream.fileno()).st_size))))


def _check_external_data(stream: BinaryIO, model: Field, folder: Path) -> None:
    for name in _locations(stream, model):
        root = os.path.realpath(folder)
        target = os.path.realpath(folder / name)
        if Path(name).is_absolute() or ".." in Path(name).parts or not target.startswith(root.rstrip(os.sep) + os.sep):
            raise ModelImportError(
                f"it reads weights from '{printable(name)}', which is outside its folder",
                expected="external data beside the file",
            )
        if not Path(target).is_file():
            raise ModelImportError(
                f"its weights are in {folder / name}, which is not there", remedy="copy that file beside the .onnx file"
            )
    if not any(True for _ in messages(stream, model, MODEL_GRAPH)):
        raise ValueError("it has no graph")


def _locations(stream: BinaryIO, model: Field) -> Iterator[str]:
    for graph in messages(stream, model, MODEL_GRAPH):
        yield from _graph_locations(stream, graph)


def _graph_locations(stream: BinaryIO, graph: Field, depth: int = 0) -> Iterator[str]:
    if depth > MAX_GRAPH_DEPTH:
        raise ValueError("graphs nested too deeply")
    for part in fields(stream, graph):
        if (part.number, part.kind) == (GRAPH_INITIALIZER, LENGTH):
            yield from _tensor_locations(stream, part)
        elif (part.number, part.kind) == (GRAPH_NODE, LENGTH):
            for attribute in messages(stream, part, NODE_ATTRIBUTE):
                for inner in fields(stream, attribute):
                    if inner.kind == LENGTH and inner.number in ATTRIBUTE_TENSORS:
                        yield from _tensor_locations(stream, inner)
                    elif inner.kind == LENGTH and inner.number in ATTRIBUTE_GRAPHS:
                        yield from _graph_locations(stream, inner, depth + 1)


def _tensor_locations(stream: BinaryIO, tensor: Field) -> Iterator[str]:
    for entry in messages(stream, tensor, TENSOR_EXTERNAL):
        found = {field.number: field for field in fields(stream, entry)}
        if ENTRY_KEY in found and ENTRY_VALUE in found and text(stream, found[ENTRY_KEY]) == LOCATION:
            yield text(stream, found[ENTRY_VALUE])


def _probabilities(values: Any, wrapping: Wrapping) -> Any:
    match wrapping.outputs:
        case "logits":
            return ops.softmax(values, 1)
        case "binary_logit" | "binary_probability":
            second = ops.sigmoid(values) if wrapping.outputs == "binary_logit" else values
            return ops.concat([ops.subtract(np.float32(1), second), second], 1)
    return values


def _sizes(shape: Any) -> tuple[int | None, ...] | None:
    if shape.rank.is_dynamic:
        return None
    return tuple(None if size.is_dynamic else size.get_length() for size in shape)


def _name(port: Any) -> str:
    return min(port.get_names(), default="unnamed")


def _parameters(model: Any) -> Parameters:
    total = sum(
        int(np.prod(node.get_output_shape(0)))
        for node in model.get_ops()
        if node.get_type_name() == "Constant"
        and node.get_output_element_type(0).is_real()
        and np.prod(node.get_output_shape(0)) > 1
    )
    return Parameters(total=total, trainable=total)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "not supported" in line.lower() or "unsupported" in line.lower()]
    return printable((telling or lines or ["unknown error"])[-1][:300])
