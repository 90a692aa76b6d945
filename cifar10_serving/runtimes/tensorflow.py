"""TensorFlow: the GPU runtime, and the reference on the CPU.

The only module outside training that imports TensorFlow. GPU memory grows on demand instead of being allocated
completely at start (https://www.tensorflow.org/guide/gpu#limiting_gpu_memory_growth).

Only the part of a SavedModel that answers is loaded. `tf.saved_model.load` would also run the file's initializers and
restore ops, and create the objects that it describes.
"""

import contextlib
import io
import os
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError

from cifar10_serving.artifacts.files import read_regular
from cifar10_serving.artifacts.graph_ops import check_graph, node_of
from cifar10_serving.artifacts.metadata import IR_FILE, MAX_FILE_BYTES, SAVED_MODEL_FILE, Precision, RuntimeName
from cifar10_serving.artifacts.wire_format import whole
from cifar10_serving.errors import ModelLoadError, RuntimeUnavailableError
from cifar10_serving.runtimes.base import DEFAULT_MAX_BATCH_SIZE, Images, Probabilities, batch_sizes, compute_in_sizes

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2, graph_pb2, node_def_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.eager import context

SIGNATURE: Final = "serving_default"
INPUT: Final = "images"
OUTPUT: Final = "probabilities"


class TensorFlowRuntime:
    """TensorFlow on one device, in float32.

    Args:
        device: `cpu`, `gpu` (the first one) or `gpu:N`.
        max_batch_size: on a GPU, the largest of the sizes to which batches are padded.

    Raises:
        RuntimeUnavailableError: TensorFlow doesn't find the GPU, or the precision is not float32.
    """

    name: RuntimeName = "tensorflow"

    def __init__(
        self,
        device: str = "cpu",
        precision: Precision = "float32",
        *,
        max_batch_size: int = DEFAULT_MAX_BATCH_SIZE,
    ) -> None:
        if precision != "float32":
            raise RuntimeUnavailableError(
                f"precision {precision} with TensorFlow", expected="float32", remedy="set runtime to openvino"
            )
        self.precision: Precision = precision
        self.precisions: tuple[Precision, ...] = (precision,)
        self.version = str(tf.__version__)
        gpus = tf.config.list_physical_devices("GPU")
        # TensorFloat-32 has only 10 bits, like float16, but this runtime promises float32.
        tf.config.experimental.enable_tensor_float_32_execution(False)
        self._sizes: tuple[int, ...] = ()
        if device == "cpu":
            _use_only([])
            self.device = "cpu"
            self._placement = "/CPU:0"
            return
        index = int(device.partition(":")[2] or 0)
        if index >= len(gpus):
            raise RuntimeUnavailableError(
                f"device {device} was requested, but TensorFlow {tf.__version__} "
                f"sees {_describe([*gpus, *tf.config.list_physical_devices('CPU')])}",
                expected=f"GPU number {index} with its driver, and TensorFlow with CUDA (extra 'gpu')",
                remedy="check nvidia-smi and the container's GPU reservation, or set device to cpu",
            )
        self.device = f"gpu:{index}"
        self._sizes = batch_sizes(max_batch_size)
        self._placement = "/GPU:0" if _use_only([gpus[index]]) else f"/GPU:{index}"

    def measured_image_s(self, folder: Path, precision: Precision) -> float | None:  # noqa: ARG002
        """Return None: with one precision there is nothing to compare."""
        return None

    def load(self, folder: Path, precision: Precision | None = None) -> "TensorFlowModel":  # noqa: ARG002
        """Load a version; see `cifar10_serving.runtimes.base.Runtime.load`."""
        if not (folder / SAVED_MODEL_FILE).exists() and (folder / IR_FILE).exists():
            raise ModelLoadError(
                f"{folder} has its network only in OpenVINO's format, which TensorFlow can't load",
                expected="a version with a SavedModel",
                remedy="set the setting runtime to openvino",
            )
        try:
            answer = _answering_function(_read_checked(folder))
        except (OSError, EOFError, ValueError, KeyError, RuntimeError, DecodeError, tf.errors.OpError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ModelLoadError(
                f"TensorFlow {self.version} can't load {folder}: {lines[0]}",
                remedy="restore the version, or publish it again",
            ) from None
        return TensorFlowModel(answer, self._placement, self._sizes)


class TensorFlowModel:
    """The `serving_default` signature of a SavedModel.

    Args:
        answer: returns probabilities for images.
        placement: TensorFlow's name of a device.
        sizes: sizes to which batches are padded, ascending; none if the device takes every size equally well.
    """

    precision: Precision = "float32"
    image_s = None
    parallel_calls = 1

    def __init__(self, answer: Any, placement: str, sizes: tuple[int, ...] = ()) -> None:
        self._answer = answer
        self._placement = placement
        self._sizes = sizes
        self.warm_up_rows = sizes or batch_sizes(DEFAULT_MAX_BATCH_SIZE)

    def predict(self, images: Images) -> Probabilities:
        """Return probabilities; see `cifar10_serving.runtimes.base.LoadedModel.predict`."""
        return compute_in_sizes(self._compute, images, self._sizes) if self._sizes else self._compute(images)

    def predict_alone(self, images: Images) -> Probabilities:
        """Return probabilities; see `cifar10_serving.runtimes.base.LoadedModel.predict_alone`."""
        return self.predict(images)

    def _compute(self, images: Images) -> Probabilities:
        with tf.device(self._placement):
            probabilities = self._answer(tf.constant(images))
        return np.asarray(probabilities, np.float32)


def _read_checked(folder: Path) -> bytes:
    """Read saved_model.pb once, so that the checked graph is the loaded one even if the file changes in between."""
    content = read_regular(folder, SAVED_MODEL_FILE, max_bytes=MAX_FILE_BYTES)
    check_graph(io.BytesIO(content), whole(len(content)), folder / SAVED_MODEL_FILE)
    return content


def _answering_function(content: bytes) -> Any:
    """Return a SavedModel's function from images to probabilities; nothing else of the file is run."""
    saved = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0]
    signature = saved.signature_def.get(SIGNATURE, None)
    if signature is None or INPUT not in signature.inputs or OUTPUT not in signature.outputs:
        raise ValueError(f"it has no signature {SIGNATURE} from {INPUT} to {OUTPUT}")
    _keep_reached(saved.graph_def, [signature.inputs[INPUT].name, signature.outputs[OUTPUT].name])
    names = _rename_functions(saved.graph_def)

    def graph() -> None:
        tf.graph_util.import_graph_def(saved.graph_def, name="")

    function = tf.compat.v1.wrap_function(graph, [])
    tensor = function.graph.as_graph_element
    answer = function.prune(feeds=tensor(signature.inputs[INPUT].name), fetches=tensor(signature.outputs[OUTPUT].name))
    weakref.finalize(answer, _release_functions, names)
    saved.Clear()  # TensorFlow has its own copy of the weights
    return answer


def _keep_reached(graph: graph_pb2.GraphDef, tensors: list[str]) -> None:
    """Remove the nodes and functions that no tensor needs, such as those that save and restore.

    TensorFlow would remove them as well, but only after its optimizers, which may replace functions by others that
    declare the same `api_implements`.
    """
    nodes = _needed(tensors, {node.name: node.input for node in graph.node})
    _remove(graph.node, lambda node: node.name not in nodes)
    library = graph.library
    called = {function.signature.name: _called_by(function.node_def) for function in library.function}
    functions = _needed(_called_by(graph.node), called)
    _remove(library.function, lambda function: function.signature.name not in functions)
    del library.gradient[:]


def _needed(roots: Iterable[str], needs: Mapping[str, Iterable[str]]) -> set[str]:
    """Return the names of roots and of everything that they need; for tensors, the nodes that produce them."""
    needed: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = node_of(waiting.pop())
        if name not in needed:
            needed.add(name)
            waiting += needs.get(name, ())
    return needed


def _called_by(nodes: Iterable[node_def_pb2.NodeDef]) -> list[str]:
    values = chain.from_iterable(node.attr.values() for node in nodes)
    return [reference.name for value in values for reference in _function_references(value)]


def _remove(entries: Any, is_unneeded: Callable[[Any], bool]) -> None:
    for index in reversed(range(len(entries))):
        if is_unneeded(entries[index]):
            del entries[index]


def _rename_functions(graph: graph_pb2.GraphDef) -> list[str]:
    """Give a graph's functions unique names, as TensorFlow keeps the functions of all graphs in one registry."""
    mark = uuid.uuid4().hex
    functions = graph.library.function
    for function in functions:
        function.signature.name = f"{function.signature.name}_{mark}"
    for node in chain(graph.node, *(function.node_def for function in functions)):
        for value in node.attr.values():
            for reference in _function_references(value):
                reference.name = f"{reference.name}_{mark}"
    return [function.signature.name for function in functions]


def _function_references(value: attr_value_pb2.AttrValue) -> Iterator[attr_value_pb2.NameAttrList]:
    for reference in [*([value.func] if value.HasField("func") else []), *value.list.func]:
        yield reference
        for argument in reference.attr.values():
            yield from _function_references(argument)


def _release_functions(names: list[str]) -> None:
    """Make TensorFlow release functions and their weights, as it does for models that it loads itself."""
    for name in names:
        with contextlib.suppress(tf.errors.OpError, ValueError):
            while context.context().has_function(name):  # TensorFlow counts each graph that has it
                context.context().remove_function(name)


def sees_gpu() -> bool:
    """Return whether TensorFlow finds a GPU on this machine."""
    return bool(tf.config.list_physical_devices("GPU"))


def _use_only(gpus: "list[tf.config.PhysicalDevice]") -> bool:
    """Hide all other GPUs, and let these grow their memory; return False if TensorFlow has started with all visible."""
    try:
        tf.config.set_visible_devices(gpus, "GPU")
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        return False
    return True


def _describe(devices: "list[tf.config.PhysicalDevice]") -> str:
    return ", ".join(device.name.removeprefix("/physical_device:") for device in devices) or "no device"
