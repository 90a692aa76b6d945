"""The ops that the graph of a published version may contain: those that only compute tensors from tensors.

TensorFlow runs any op that a SavedModel names, some of them while it loads: `WriteFile` writes, `PyFunc` calls Python,
a data set reads files, `RemoteCall` calls other machines. So every op of every function is checked before a runtime
loads the graph, and ops that aren't listed are rejected by name. Weights are constants of the graph, so ops for
variables are not listed either.

Every SavedModel contains ops that save and restore it. They are accepted if nothing that answers reaches them: the
service loads the signature `serving_default` and what it needs, no initializer and no checkpoint.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import BinaryIO, Final

from cifar10_serving.artifacts.documents import printable
from cifar10_serving.artifacts.wire_format import LENGTH, Field, fields, messages, text
from cifar10_serving.errors import UnsafeGraphError

OPS_FILE: Final = Path(__file__).with_name("computing_ops.txt")
CALLS: Final = frozenset(
    {
        "Case",
        "For",
        "If",
        "MapDefun",
        "PartitionedCall",
        "StatefulPartitionedCall",
        "StatelessCase",
        "StatelessIf",
        "StatelessWhile",
        "While",
    }
)
"""Ops that run functions of the graph."""
COMPUTING: Final = CALLS | frozenset(
    op for line in OPS_FILE.read_text("utf-8").splitlines() if not line.startswith("#") for op in line.split()
)
SAVING: Final = frozenset({"MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"})
"""Ops that read and write checkpoints at any path."""

MAX_NODES: Final = 200_000
MAX_FUNCTION_DEPTH: Final = 16
MAX_CALL_DEPTH: Final = 64
META_GRAPH: Final = 2
GRAPH, COLLECTIONS, SIGNATURES = 2, 4, 5
NODES, LIBRARY = 1, 2
FUNCTIONS, FUNCTION_SIGNATURE, FUNCTION_NODES, FUNCTION_NAME = 1, 1, 3, 1
NODE_NAME, NODE_OP, NODE_INPUT, NODE_ATTRIBUTES = 1, 2, 3, 5
ATTRIBUTE_LIST, ATTRIBUTE_FUNCTION, LIST_FUNCTIONS = 1, 10, 9
FUNCTION_REFERENCE, FUNCTION_REFERENCE_ATTRIBUTES = 1, 2
COLLECTION_NODES, COLLECTION_NAME = 1, 1
INPUTS, OUTPUTS, MAP_VALUE = 1, 2, 2
TENSOR_NAME, TENSOR_SPARSE, TENSOR_COMPOSITE, COMPOSITE_PARTS = 1, 4, 5, 2


def allowed_ops_digest() -> str:
    """Return a digest of the allowed ops: a graph that passed under another one has to be checked again."""
    return hashlib.sha256("\n".join([*sorted(COMPUTING), "", *sorted(SAVING)]).encode()).hexdigest()


@dataclass(slots=True)
class _Node:
    name: str = ""
    op: str = ""
    inputs: list[str] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Graph:
    """The nodes of a MetaGraph and of its functions, and the nodes that are run from outside."""

    nodes: list[_Node] = field(default_factory=list)
    functions: dict[str, list[_Node]] = field(default_factory=dict)
    roots: set[str] = field(default_factory=set)


def check_graph(stream: BinaryIO, message: Field, file: Path, *, also: frozenset[str] = frozenset()) -> None:
    """Check that a SavedModel has one graph, which only computes.

    Args:
        stream: contains the SavedModel.
        message: its location in the stream.
        file: path for the error.
        also: ops to accept in addition, for graphs that no runtime loads.

    Raises:
        UnsafeGraphError: it has an op that is not in `COMPUTING`, an op of `SAVING` that may be run, or recursive
            functions.
        EOFError, ValueError: it is not a SavedModel.
    """
    graphs = [_read_graph(stream, field) for field in messages(stream, message, META_GRAPH)]
    for graph in graphs:
        for where, node in _all_nodes(graph):
            if node.op not in COMPUTING and node.op not in SAVING and node.op not in also:
                raise _unsafe(file, node.op, where)
        for where, node in _reached(graph):
            if node.op in SAVING:
                raise _unsafe(file, node.op, where)
        _check_calls(graph, file)
    if len(graphs) != 1:
        raise UnsafeGraphError(f"{file} has {len(graphs)} graphs", expected="one graph, for serving")


def _check_calls(graph: _Graph, file: Path) -> None:
    """Check for recursion and size: runtimes inline each call, on a stack that can overflow."""
    calls = {name: [called for node in nodes for called in node.functions] for name, nodes in graph.functions.items()}
    calls[""] = [called for node in graph.nodes for called in node.functions]
    sizes: dict[str, int] = {}
    depths: dict[str, int] = {}
    try:
        for name in TopologicalSorter(calls).static_order():
            called_here = calls.get(name, [])
            sizes[name] = len(graph.functions.get(name, ())) + sum(sizes[called] for called in called_here)
            depths[name] = 1 + max((depths[called] for called in called_here), default=0)
            if sizes[name] > MAX_NODES or depths[name] > MAX_CALL_DEPTH:
                raise UnsafeGraphError(
                    f"{file} has functions that reach {sizes[name]:,} nodes and are {depths[name]} levels deep",
                    expected=f"at most {MAX_NODES:,} nodes and {MAX_CALL_DEPTH} levels",
                )
    except CycleError:
        raise UnsafeGraphError(
            f"{file} has a function that calls itself", expected="functions without recursion"
        ) from None


def _unsafe(file: Path, op: str, where: str) -> UnsafeGraphError:
    function = f" in the function '{printable(where)}'" if where else ""
    return UnsafeGraphError(
        f"{file} has the op '{printable(op)}'{function}, which does more than compute",
        expected="ops that compute tensors from tensors, with the weights as constants (docs/artifact.md)",
        remedy="export the model without this op",
    )


def _all_nodes(graph: _Graph) -> Iterator[tuple[str, _Node]]:
    yield from (("", node) for node in graph.nodes)
    yield from ((name, node) for name, nodes in graph.functions.items() for node in nodes)


def _reached(graph: _Graph) -> Iterator[tuple[str, _Node]]:
    """Yield the nodes that signatures and initializers run, including all nodes of called functions."""
    by_name: dict[str, list[_Node]] = {}
    for node in graph.nodes:
        by_name.setdefault(node.name, []).append(node)
    called: set[str] = set()
    seen: set[str] = set()
    waiting = list(graph.roots)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            for node in by_name.get(name, ()):
                waiting += node.inputs
                called |= node.functions
                yield "", node
    entered: set[str] = set()
    while called:
        function = called.pop()
        entered.add(function)
        for node in graph.functions.get(function, ()):
            called |= node.functions - entered
            yield function, node


def _read_graph(stream: BinaryIO, message: Field) -> _Graph:
    # A field that should occur once may occur several times and is then merged: all of them count.
    graph = _Graph()
    for part in fields(stream, message):
        if part.kind != LENGTH:
            continue
        if part.number == GRAPH:
            graph.nodes += _read_nodes(stream, messages(stream, part, NODES))
            for library in messages(stream, part, LIBRARY):
                for function in messages(stream, library, FUNCTIONS):
                    nodes = _read_nodes(stream, messages(stream, function, FUNCTION_NODES))
                    for name in _function_names(stream, function):
                        graph.functions.setdefault(name, []).extend(nodes)
        elif part.number == SIGNATURES:
            graph.roots.update(map(node_of, _signature_tensors(stream, part)))
        elif part.number == COLLECTIONS:
            for collection in messages(stream, part, MAP_VALUE):
                for nodes_of in messages(stream, collection, COLLECTION_NODES):
                    graph.roots.update(
                        node_of(text(stream, name)) for name in messages(stream, nodes_of, COLLECTION_NAME)
                    )
    return graph


def _read_nodes(stream: BinaryIO, found: Iterable[Field]) -> list[_Node]:
    nodes: list[_Node] = []
    for message in found:
        if len(nodes) >= MAX_NODES:
            raise ValueError(f"more than {MAX_NODES:,} nodes")
        nodes.append(_read_node(stream, message))
    return nodes


def _read_node(stream: BinaryIO, message: Field) -> _Node:
    node = _Node()
    for part in fields(stream, message):
        if part.kind != LENGTH:
            continue
        if part.number == NODE_NAME:
            node.name = text(stream, part)
        elif part.number == NODE_OP:
            node.op = text(stream, part)
        elif part.number == NODE_INPUT:
            node.inputs.append(node_of(text(stream, part)))
        elif part.number == NODE_ATTRIBUTES:
            for value in messages(stream, part, MAP_VALUE):
                node.functions.update(_functions(stream, value))
    return node


def _functions(stream: BinaryIO, attribute: Field, depth: int = 0) -> Iterator[str]:
    """Yield the functions that an attribute names, including arguments of functions."""
    if depth > MAX_FUNCTION_DEPTH:
        raise ValueError("functions nested too deeply")
    references = list(messages(stream, attribute, ATTRIBUTE_FUNCTION))
    for several in messages(stream, attribute, ATTRIBUTE_LIST):
        references += messages(stream, several, LIST_FUNCTIONS)
    for reference in references:
        yield from (text(stream, name) for name in messages(stream, reference, FUNCTION_REFERENCE))
        for argument in messages(stream, reference, FUNCTION_REFERENCE_ATTRIBUTES):
            for value in messages(stream, argument, MAP_VALUE):
                yield from _functions(stream, value, depth + 1)


def _function_names(stream: BinaryIO, function: Field) -> Iterator[str]:
    for signature in messages(stream, function, FUNCTION_SIGNATURE):
        yield from (text(stream, name) for name in messages(stream, signature, FUNCTION_NAME))


def _signature_tensors(stream: BinaryIO, message: Field) -> Iterator[str]:
    for signature in messages(stream, message, MAP_VALUE):
        for part in fields(stream, signature):
            if part.number in (INPUTS, OUTPUTS):
                for tensor in messages(stream, part, MAP_VALUE):
                    yield from _tensor_names(stream, tensor)


def _tensor_names(stream: BinaryIO, tensor: Field, depth: int = 0) -> Iterator[str]:
    if depth > MAX_FUNCTION_DEPTH:
        raise ValueError("tensors nested too deeply")
    yield from (text(stream, name) for name in messages(stream, tensor, TENSOR_NAME))
    for sparse in messages(stream, tensor, TENSOR_SPARSE):
        yield from (text(stream, name) for name in fields(stream, sparse) if name.kind == LENGTH)
    for composite in messages(stream, tensor, TENSOR_COMPOSITE):
        for part in messages(stream, composite, COMPOSITE_PARTS):
            yield from _tensor_names(stream, part, depth + 1)


def node_of(tensor: str) -> str:
    """Return the node of a tensor `node:0` or of a control input `^node`."""
    return tensor.removeprefix("^").partition(":")[0]
