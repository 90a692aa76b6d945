"""Open a SavedModel: one of Keras' `model.export`, or any with a signature that has one input of images.

The graph is checked first: ops that touch files, processes or the network are rejected. Variables are accepted, as
their values become constants, and so are the ops that save and restore them if no signature reaches them. TensorFlow
loads a copy in which the saving ops do nothing.
"""

import io
import tempfile
from pathlib import Path
from typing import Any, Final

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from cifar10_serving.artifacts.files import read_regular
from cifar10_serving.artifacts.graph_ops import check_graph
from cifar10_serving.artifacts.metadata import MAX_FILE_BYTES, SAVED_MODEL_FILE, SIGNATURE, Parameters
from cifar10_serving.artifacts.saved_model import Signature, SignatureTensor, read_signatures
from cifar10_serving.artifacts.wire_format import whole
from cifar10_serving.errors import ProjectError
from training.errors import ModelImportError
from training.importing.source import Size, image_input, only_one, output_count
from training.importing.tensorflow_graph import GraphSource, one_line

VARIABLES: Final = frozenset(
    {
        "AsString", "Assert", "Assign", "AssignAddVariableOp", "AssignSubVariableOp", "AssignVariableOp",
        "DestroyResourceOp", "DisableCopyOnRead", "IsVariableInitialized", "ReadVariableOp", "ResourceGather",
        "StaticRegexFullMatch", "StringJoin", "VarHandleOp", "VarIsInitializedOp", "VariableShape", "VariableV2",
    }
)  # fmt: skip
"""Ops that a SavedModel with variables needs in addition to those of a published version."""
WRITING: Final = frozenset({"SaveV2", "MergeV2Checkpoints"})
"""Ops that write files; they have no outputs, so that an op that does nothing can take their place."""
INTERNAL: Final = "__"
DTYPES: Final = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_HALF": "float16", "DT_19": "float16",
                 "DT_14": "bfloat16", "DT_UINT8": "uint8", "DT_INT32": "int32", "DT_STRING": "string"}  # fmt: skip


def open_saved_model_folder(folder: Path, image_size: Size | None) -> GraphSource:
    """Open a SavedModel.

    Raises:
        ModelImportError: it is not a SavedModel, its graph does more than compute, or is not a classifier of images.
    """
    try:
        name, signature = _chosen(read_signatures(folder))
        content = read_regular(folder, SAVED_MODEL_FILE, max_bytes=MAX_FILE_BYTES)
        check_graph(io.BytesIO(content), whole(len(content)), folder / SAVED_MODEL_FILE, also=VARIABLES)
    except ModelImportError:
        raise
    except ProjectError as error:
        raise ModelImportError(error.problem, expected=error.expected, remedy=error.remedy) from None
    except (OSError, EOFError, ValueError) as error:
        raise ModelImportError(f"{folder / SAVED_MODEL_FILE} is not a SavedModel: {one_line(error)}") from None
    input_name = only_one(sorted(signature.inputs), "input")
    output_name = only_one(sorted(signature.outputs), "output")
    tensor = signature.inputs[input_name]
    source_input = image_input(tensor.shape, _dtype(tensor), image_size)
    function, loaded = _load(folder, content, name)

    def outputs(pixels: Any, _variables: Any = loaded) -> Any:  # the function holds its variables only weakly
        return function(**{input_name: pixels})[output_name]

    return GraphSource(
        "saved_model",
        outputs,
        source_input,
        output_count=output_count(_output_shape(function, signature.outputs[output_name], output_name)),
        parameters=_parameters(function, loaded),
        architecture=f"SavedModel with the signature '{name}', imported",
        scales_itself=False,
    )


def _chosen(signatures: dict[str, Signature]) -> tuple[str, Signature]:
    usable = {name: found for name, found in signatures.items() if not name.startswith(INTERNAL)}
    if SIGNATURE in usable:
        return SIGNATURE, usable[SIGNATURE]
    if len(usable) == 1:
        return next(iter(usable.items()))
    listed = f": {', '.join(usable)}" if usable else ""
    raise ModelImportError(
        f"it has {len(usable)} signatures{listed}",
        expected=f"the signature {SIGNATURE}, or only one",
        remedy="export it with Keras' model.export, or tf.saved_model.save with signatures",
    )


def _dtype(tensor: SignatureTensor) -> str:
    if tensor.dtype not in DTYPES:
        raise ModelImportError(f"its input has the type {tensor.dtype}", expected="float32 or uint8 pixels")
    return DTYPES[tensor.dtype]


def _load(folder: Path, content: bytes, name: str) -> tuple[Any, Any]:
    """Load a copy that can't write; return the signature's function and the object that keeps its variables."""
    with tempfile.TemporaryDirectory(prefix="import-") as copy:
        try:
            saved = saved_model_pb2.SavedModel.FromString(content)
            _disarm(saved)
            Path(copy, SAVED_MODEL_FILE).write_bytes(saved.SerializeToString())
            if (folder / "variables").is_dir():
                Path(copy, "variables").symlink_to((folder / "variables").resolve())
            with tf.device("/CPU:0"):
                loaded = tf.saved_model.load(copy)
            return loaded.signatures[name], loaded
        except (OSError, ValueError, KeyError, TypeError, AttributeError, DecodeError, tf.errors.OpError) as error:
            text = one_line(error).replace(copy, str(folder))
            raise ModelImportError(f"TensorFlow {tf.__version__} can't load {folder}: {text}") from None


def _disarm(saved: saved_model_pb2.SavedModel) -> None:
    graph = saved.meta_graphs[0].graph_def
    for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
        for node in nodes:
            if node.op in WRITING:
                node.op = "NoOp"
                controls = [entry for entry in node.input if entry.startswith("^")]
                del node.input[:]
                node.input.extend(controls)
                node.attr.clear()


def _output_shape(function: Any, tensor: SignatureTensor, name: str) -> tuple[int | None, ...] | None:
    if tensor.shape is not None:
        return tensor.shape
    shape = function.structured_outputs[name].shape
    return None if shape.rank is None else tuple(shape.as_list())


def _parameters(function: Any, loaded: Any) -> Parameters:
    def count(variables: Any) -> int:
        return sum(int(variable.shape.num_elements() or 0) for variable in variables)

    variables = list(function.graph.variables) or list(getattr(loaded, "variables", []))
    if not variables:
        constants = [node for node in function.graph.as_graph_def().node if node.op == "Const"]
        sizes = [tf.make_ndarray(node.attr["value"].tensor) for node in constants]
        total = sum(values.size for values in sizes if values.dtype.kind == "f")
        return Parameters(total=total, trainable=total)
    return Parameters(total=count(variables), trainable=count(variable for variable in variables if variable.trainable))
