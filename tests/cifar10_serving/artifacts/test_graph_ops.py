"""Graphs that do more than compute, written by TensorFlow, with ops in each place where a SavedModel has ops."""

import importlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.core.framework import op_def_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.client import pywrap_tf_session

from cifar10_serving.artifacts.graph_ops import CALLS, COMPUTING, SAVING, check_graph
from cifar10_serving.artifacts.layout import version_folder
from cifar10_serving.artifacts.metadata import SAVED_MODEL_FILE
from cifar10_serving.artifacts.wire_format import whole
from cifar10_serving.errors import UnsafeGraphError
from tests.conftest import MODELS, every_published_version

SavedModel = Any
STATEFUL = {"Assert", "Case", "CheckNumerics", "CheckNumericsV2", "GuaranteeConst", "If", "StatefulPartitionedCall",
    "While", "Multinomial", "RandomGamma", "RandomPoissonV2", "RandomShuffle", "RandomStandardNormal", "RandomUniform",
    "RandomUniformInt", "StatelessRandomGetAlg", "TruncatedNormal"}  # fmt: skip
"""Ops that TensorFlow calls stateful and that touch nothing outside of the graph."""
LISTS_IN_MEMORY = "TensorArray"


def check(saved: SavedModel) -> None:
    content = saved.SerializeToString()
    check_graph(BytesIO(content), whole(len(content)), Path("saved_model.pb"))


def published(name: str = "sequential", version: int = 3) -> SavedModel:
    content = (version_folder(MODELS, name, version) / SAVED_MODEL_FILE).read_bytes()
    return saved_model_pb2.SavedModel.FromString(content)


@pytest.mark.parametrize(("name", "version"), every_published_version())
def test_published_versions_only_compute(name: str, version: int) -> None:
    check(published(name, version))


def add_to_graph(saved: SavedModel, op: str) -> None:
    saved.meta_graphs[0].graph_def.node.add(name="odd", op=op)


def add_to_function(saved: SavedModel, op: str) -> None:
    saved.meta_graphs[0].graph_def.library.function[0].node_def.add(name="odd", op=op)


def add_function(saved: SavedModel, op: str) -> None:
    function = saved.meta_graphs[0].graph_def.library.function.add()
    function.signature.name = "unused"
    function.node_def.add(name="odd", op=op)


def add_graph(saved: SavedModel, op: str) -> None:
    saved.meta_graphs.add().graph_def.node.add(name="odd", op=op)


PLACES = [add_to_graph, add_to_function, add_function, add_graph]
HARMFUL = [
    "WriteFile", "ReadFile", "MatchingFiles", "PyFunc", "PyFuncStateless", "EagerPyFunc", "PrintV2", "RemoteCall",
    "TensorSliceDataset", "TextLineDataset", "InitializeTableFromTextFileV2", "ImmutableConst", "VarHandleOp",
    "HashTableV2", "XlaCallModule", "SymbolicGradient", "TPUCompile", "_Send", "LoadLibrary", "MyOwnOp", "",
    "Identity2",
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("op", HARMFUL)
def test_op_that_does_more_is_rejected_by_name_wherever_it_is(
    place: Callable[[SavedModel, str], None], op: str
) -> None:
    saved = published()
    place(saved, op)
    with pytest.raises(UnsafeGraphError, match=f"the op '{op}'"):
        check(saved)


def save_in_graph(saved: SavedModel) -> None:
    graph = saved.meta_graphs[0]
    graph.graph_def.node.add(name="odd", op="SaveV2")
    graph.signature_def["odd"].outputs["odd"].name = "odd:0"


def save_by_control_input(saved: SavedModel) -> None:
    graph = saved.meta_graphs[0].graph_def
    graph.node.add(name="odd", op="SaveV2")
    next(node for node in graph.node if node.op == "NoOp").input.append("^odd")


def save_as_initializer(saved: SavedModel) -> None:
    graph = saved.meta_graphs[0]
    graph.graph_def.node.add(name="odd", op="SaveV2")
    graph.collection_def["saved_model_main_op"].node_list.value.append("odd")


def called_through(path: Callable[[Any, str], None], op: str = "While") -> Callable[[SavedModel], None]:
    def change(saved: SavedModel) -> None:
        library = saved.meta_graphs[0].graph_def.library
        saving = library.function.add()
        saving.signature.name = "saving"
        saving.node_def.add(name="odd", op="RestoreV2")
        between = library.function.add()
        between.signature.name = "between"
        path(between.node_def.add(name="calls", op=op).attr, "saving")
        answering = next(f for f in library.function if "wrapper_serving_default" in f.signature.name)
        answering.node_def.add(name="odd", op="PartitionedCall").attr["f"].func.name = "between"

    return change


def by_list(attributes: Any, name: str) -> None:
    attributes["branches"].list.func.add().name = name


def by_argument(attributes: Any, name: str) -> None:
    attributes["body"].func.name = "map_while_body"
    attributes["body"].func.attr["F"].func.name = name


@pytest.mark.parametrize(
    "change",
    [
        save_in_graph,
        save_by_control_input,
        save_as_initializer,
        called_through(lambda attributes, name: attributes["body"].func.__setattr__("name", name)),
        called_through(by_list),
        called_through(by_argument),
        called_through(by_list, "NoOp"),
    ],
)
def test_saving_and_restoring_is_rejected_where_something_may_run_it(change: Callable[[SavedModel], None]) -> None:
    saved = published()
    change(saved)
    with pytest.raises(UnsafeGraphError, match=r"SaveV2|RestoreV2"):
        check(saved)


def calling_chain(calls: int, *, levels: int) -> SavedModel:
    """Return a graph whose functions call the next one, several times each."""
    saved = published()
    library = saved.meta_graphs[0].graph_def.library
    for level in range(levels):
        function = library.function.add()
        function.signature.name = f"level{level}"
        for call in range(calls if level else 0):
            function.node_def.add(name=f"{call}", op="PartitionedCall").attr["f"].func.name = f"level{level - 1}"
    return saved


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_functions_that_call_themselves_are_rejected(levels: int) -> None:
    saved = calling_chain(1, levels=levels)
    last = saved.meta_graphs[0].graph_def.library.function[-levels]
    last.node_def.add(name="again", op="While").attr["body"].func.name = f"level{levels - 1}"
    with pytest.raises(UnsafeGraphError, match="calls itself"):
        check(saved)


@pytest.mark.parametrize(("calls", "levels"), [(1, 5_000), (2, 40), (10, 10)])
def test_functions_that_become_too_large_are_rejected(calls: int, levels: int) -> None:
    with pytest.raises(UnsafeGraphError, match="levels deep"):
        check(calling_chain(calls, levels=levels))


def test_field_that_is_there_twice_counts_twice() -> None:
    saved = published()
    addition = saved_model_pb2.SavedModel().meta_graphs.add()
    addition.graph_def.node.add(name="odd", op="WriteFile")
    graph = saved.meta_graphs[0].SerializeToString() + addition.SerializeToString()
    length = bytes((len(graph) >> shift & 0x7F) | (0x80 if len(graph) >> shift + 7 else 0) for shift in (0, 7, 14, 21))
    content = b"\x12" + length[: (len(graph).bit_length() + 6) // 7] + graph
    assert "WriteFile" in {node.op for node in saved.FromString(content).meta_graphs[0].graph_def.node}
    with pytest.raises(UnsafeGraphError, match="WriteFile"):
        check_graph(BytesIO(content), whole(len(content)), Path("saved_model.pb"))


def test_one_graph_is_expected() -> None:
    saved = published()
    saved.meta_graphs.add().graph_def.node.add(name="x", op="Const")
    with pytest.raises(UnsafeGraphError, match="has 2 graphs"):
        check(saved)


@pytest.fixture(scope="module")
def registered() -> dict[str, Any]:
    """TensorFlow's own description of its ops, by name."""
    described = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    return {op.name: op for op in described.op}


def test_every_listed_op_is_one_of_tensorflow(registered: dict[str, Any]) -> None:
    assert (COMPUTING | SAVING) - set(registered) == set()


def test_no_listed_op_keeps_anything_outside_of_the_graph(registered: dict[str, Any]) -> None:
    stateful = {op for op in COMPUTING if registered[op].is_stateful and not op.startswith(LISTS_IN_MEMORY)}
    assert stateful == STATEFUL


def test_ops_that_run_functions_are_known_as_such(registered: dict[str, Any]) -> None:
    running = {op for op in COMPUTING if any("func" in attribute.type for attribute in registered[op].attr)}
    assert running == CALLS


SHALLOW_EFFICIENTNET = {
    "width_coefficient": 1,
    "depth_coefficient": 0.1,
    "default_size": 64,
    "name": "efficientnetv2-b0",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "architecture", "size"),
    [
        ("efficientnet_v2", "EfficientNetV2", SHALLOW_EFFICIENTNET),
        ("convnext", "ConvNeXt", {"depths": [1, 1, 1, 1], "projection_dims": [8, 8, 8, 8], "default_size": 64}),
        ("mobilenet_v3", "MobileNetV3Small", {}),
    ],
)
def test_classifiers_of_keras_only_compute(module: str, architecture: str, size: dict[str, Any]) -> None:
    # As shallow as they can be: a deeper one has more nodes of the same ops.
    build = getattr(importlib.import_module(f"keras.src.applications.{module}"), architecture)
    model = build(**size, weights=None, input_shape=(64, 64, 3), classes=5)
    function = tf.function(lambda x: model(tf.cast(x, tf.float32), training=False)).get_concrete_function(
        tf.TensorSpec((None, 64, 64, 3), tf.uint8)
    )
    # Freezing, which takes as long as all the rest, only has constants in the place of variables that are read.
    assert {node.op for node in function.graph.as_graph_def().node} - {"ReadVariableOp"} <= COMPUTING
