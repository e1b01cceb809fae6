"""An ONNX file of unknown origin -> its graph, checked, with every tensor in memory or mapped into it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from model.checkpoints.checkpoint import CheckpointError, naming
from model.checkpoints.onnx_exports.external_tensors import MAX_BYTES, read_external
from model.files import open_regular_file

MAX_NODES = 200_000
MAX_TENSORS = 100_000
MAX_DEPTH = 8  # of graphs within graphs
# What the oldest onnxruntime that we run on opens, 1.24.1; and the first operators that we put around a graph.
OPSETS, IR_VERSIONS = range(11, 26), range(3, 14)
# The standard's, and those of onnxruntime itself, which no library has to be loaded for.
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
_LOOPS = ("Loop", "Scan", "SequenceMap")  # which may have no end


@dataclass(frozen=True)
class Value:
    """An input or output: its element type, as in TensorProto, and its dimensions; None for those that are dynamic."""

    dtype: int
    dims: tuple[int | None, ...] | None  # None where even their number is not declared


@dataclass
class GraphFile:
    """A checked graph, and the large ones of its tensors that lie in other files, mapped into memory."""

    file: Path
    proto: ModelProto
    external: dict[str, npt.NDArray[Any]]
    inputs: dict[str, Value]
    outputs: dict[str, Value]

    @property
    def opset(self) -> int:
        """Of the standard's operators."""
        return int(next(item.version for item in self.proto.opset_import if item.domain in ("", "ai.onnx")))


def read_graph(file: Path, folder: Path) -> GraphFile:
    """Read an ONNX file, and what it refers to beside it, which must lie in `folder`.

    Raises CheckpointError for a file that is malformed or huge, and for what onnxruntime does not run by itself.
    """
    with naming(file):
        proto = _parse(file)
        _check_versions(proto)
        _check_graph(proto.graph, 0)
        external = read_external(proto, file, folder)
        initialisers = {tensor.name for tensor in proto.graph.initializer}
        inputs = {value.name: _value(value) for value in proto.graph.input if value.name not in initialisers}
        return GraphFile(file, proto, external, inputs, {value.name: _value(value) for value in proto.graph.output})


def nodes_of(graph: GraphProto) -> Iterator[NodeProto]:
    """The nodes of a graph and of all graphs within it."""
    for node in graph.node:
        yield node
        for inner in graphs_within(node):
            yield from nodes_of(inner)


def graphs_within(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs among a node's attributes."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _parse(file: Path) -> ModelProto:
    try:
        with open_regular_file(file) as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise CheckpointError(f"it cannot be read: {error.strerror or error}") from error
    if len(content) > MAX_BYTES:
        raise CheckpointError("it is larger than 2 GiB, which no protobuf can be")
    try:
        proto: ModelProto = onnx.load_model_from_string(content)
    except Exception as error:  # of the protobuf library
        hint = ": it is a pointer of Git LFS, whose content was not fetched" if content.startswith(b"version ") else ""
        raise CheckpointError(f"it is not an ONNX file{hint}") from error
    if not proto.graph.node:
        raise CheckpointError("it is not an ONNX file, or its graph is empty")
    return proto


def _check_versions(proto: ModelProto) -> None:
    if proto.ir_version not in IR_VERSIONS:
        raise CheckpointError(
            f"its IR version is {proto.ir_version}, and {IR_VERSIONS[0]} to {IR_VERSIONS[-1]} are read: export "
            "it again, or set `ir_version` if nothing newer is used"
        )
    for item in proto.opset_import:
        if item.domain not in DOMAINS:
            continue  # declared by some exporters and used by no node, which is checked
        if item.domain in ("", "ai.onnx") and item.version not in OPSETS:
            raise CheckpointError(
                f"it needs operators of opset {item.version}, and those of {OPSETS[0]} to {OPSETS[-1]} are run: "
                "convert it with onnx.version_converter, or export it again"
            )
    if not any(item.domain in ("", "ai.onnx") for item in proto.opset_import):
        raise CheckpointError("it does not say which opset it needs")
    if proto.functions:
        raise CheckpointError(
            f"it has {len(proto.functions)} functions of its own, such as {proto.functions[0].name!r:.100}: write them "
            "out with onnx.inliner.inline_local_functions"
        )


def _check_graph(graph: GraphProto, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise CheckpointError(f"it has graphs within graphs, more than {MAX_DEPTH} deep")
    if len(graph.node) > MAX_NODES or len(graph.initializer) > MAX_TENSORS:
        raise CheckpointError(
            f"it has {len(graph.node)} nodes and {len(graph.initializer)} tensors, more than any model"
        )
    if graph.sparse_initializer:
        raise CheckpointError("it has sparse tensors, which are not supported")
    named = (*graph.node, *graph.initializer, *graph.input, *graph.output)
    names = [part.name for part in named] + [name for node in graph.node for name in (*node.input, *node.output)]
    if any(isinstance(name, bytes) for name in names):  # as the protobuf library gives what it cannot decode
        raise CheckpointError("its names are not UTF-8: it is damaged")
    for node in graph.node:
        if node.domain not in DOMAINS:
            raise CheckpointError(
                f"its operator {node.domain}.{node.op_type} is neither the standard's nor onnxruntime's own, and no "
                "code is loaded for it"
            )
        if node.op_type in _LOOPS:
            raise CheckpointError(f"it has a {node.op_type}, which may have no end: no such graph is run")
        tensors = [attribute.t for attribute in node.attribute if attribute.type == AttributeProto.TENSOR]
        if any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors):
            raise CheckpointError(f"its {node.op_type} {node.name!r:.100} refers to another file")
        for inner in graphs_within(node):
            if any(tensor.data_location == TensorProto.EXTERNAL for tensor in inner.initializer):
                raise CheckpointError(f"a graph within its {node.op_type} {node.name!r:.100} refers to another file")
            _check_graph(inner, depth + 1)


def _value(value: ValueInfoProto) -> Value:
    tensor = value.type.tensor_type
    dims = tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in tensor.shape.dim)
    return Value(tensor.elem_type, dims if tensor.HasField("shape") else None)
