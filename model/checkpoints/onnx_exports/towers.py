"""A graph of another's between our input and our output: pixels or token ids -> vectors of unit length.

Nothing of the graph itself is changed. Its names get a prefix, and what no output of ours depends on is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from model.checkpoints.onnx_exports.graph_file import DOMAINS, GraphFile, graphs_within
from model.config import Preprocessing

Prefix = Literal["visual.", "textual."]
IR_VERSION = 8  # of what is written, at least
EMBEDDINGS, PIXELS, TOKEN_IDS = "embeddings", "pixels", "token_ids"
_NORM_AXES_ARE_AN_INPUT = 18  # of ReduceL2, from that opset on
_SHORTEST = 1e-12  # as torch.nn.functional.normalize has it


@dataclass(frozen=True)
class Tower:
    """One tower of an export: its graph, and which of its inputs and outputs are what."""

    graph: GraphFile
    output: str
    values: str  # the input that takes pictures, or token ids
    mask: str | None = None  # that says which ids are no padding
    types: str | None = None  # of tokens, which are all 0
    dimensions: int = 0  # of its vectors, once it has run
    unit_length: bool = False  # its vectors are normalised already


def cut_out(tower: Tower, prefix: Prefix) -> ModelProto:
    """The part of a tower's graph that its output depends on, its names after the prefix.

    It is the graph that was read itself, whose memory is not taken twice.
    """
    proto = tower.graph.proto
    graph = proto.graph
    _keep_what_leads_to(graph, tower.output)
    taken = [value for value in graph.input if value.name in tower.graph.inputs]  # old files list the weights, too
    del graph.input[:], graph.value_info[:], proto.metadata_props[:]
    graph.input.extend(taken)
    for node in graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    _put_before_names(graph, prefix)
    opsets = [item for item in proto.opset_import if item.domain in DOMAINS]
    del proto.opset_import[:]
    proto.opset_import.extend(opsets)
    proto.ir_version = max(proto.ir_version, IR_VERSION)
    proto.producer_name = proto.producer_version = proto.doc_string = ""
    return proto


def image_graph(inner: ModelProto, tower: Tower, preprocessing: Preprocessing) -> ModelProto:
    """The image tower: pixels [batch, size, size, 3] uint8 -> embeddings [batch, embed_dim] float32."""
    image = f"visual.{tower.values}"
    dtype = tower.graph.inputs[tower.values].dtype
    mean, std = (np.array(values, np.float64) for values in (preprocessing.mean, preprocessing.std))
    shape = (1, 3, 1, 1)
    constants = {
        "pixel_scale": (1 / (255 * std)).astype(np.float32).reshape(shape),
        "pixel_offset": (mean / std).astype(np.float32).reshape(shape),
    }
    before = [
        helper.make_node("Transpose", [PIXELS], ["channels_first"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["channels_first"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["levels", "pixel_scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "pixel_offset"], ["normalised"]),
        helper.make_node("Cast", ["normalised"], [image], to=dtype),
    ]
    side = preprocessing.size
    given = helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, ["batch", side, side, 3])
    return _between(inner, tower, "visual.", given, before, constants)


def text_graph(inner: ModelProto, tower: Tower, pad_id: int, ends_with_pad: bool, length: int | None) -> ModelProto:
    """The text tower: token ids [batch, length] int64 -> embeddings [batch, embed_dim] float32; None for any length.

    `ends_with_pad` says that the token which ends a text is what fills rows up: the first of them is no padding.
    """
    ids = f"textual.{tower.values}"
    before = [helper.make_node("Cast", [TOKEN_IDS], [ids], to=tower.graph.inputs[tower.values].dtype)]
    constants: dict[str, npt.NDArray[Any]] = {}
    if tower.mask is not None:
        constants |= {"pad_id": np.array(pad_id, np.int64)}
        before.append(helper.make_node("Equal", [TOKEN_IDS, "pad_id"], ["is_pad"]))
        hidden = "is_pad"
        if ends_with_pad:
            hidden = "is_hidden"
            constants |= {"along": np.array(1, np.int64), "none": np.array(0, np.int64)}
            before += [
                helper.make_node("Cast", ["is_pad"], ["pad_count"], to=TensorProto.INT64),
                helper.make_node("CumSum", ["pad_count", "along"], ["pads_before"], exclusive=1),
                helper.make_node("Greater", ["pads_before", "none"], [hidden]),
            ]
        mask = tower.graph.inputs[tower.mask].dtype
        before += [
            helper.make_node("Not", [hidden], ["is_seen"]),
            helper.make_node("Cast", ["is_seen"], [f"textual.{tower.mask}"], to=mask),
        ]
    if tower.types is not None:
        types = tower.graph.inputs[tower.types].dtype
        before += [
            helper.make_node("Sub", [TOKEN_IDS, TOKEN_IDS], ["zeros"]),
            helper.make_node("Cast", ["zeros"], [f"textual.{tower.types}"], to=types),
        ]
    given = helper.make_tensor_value_info(TOKEN_IDS, TensorProto.INT64, ["batch", length or "length"])
    return _between(inner, tower, "textual.", given, before, constants)


def one_at_a_time(whole: ModelProto) -> ModelProto:
    """The graph run for each row of its input by itself: for those that take one, or mix rows of a batch."""
    graph = whole.graph
    given, result, dims = graph.input[0], graph.output[0], _dims(graph.input[0])
    weights = list(graph.input)[1:]
    constants = {"one_row": np.array([1, *(dim if isinstance(dim, int) else -1 for dim in dims[1:])], np.int64)}
    constants["one_vector"] = np.array([-1], np.int64)
    row = helper.make_tensor_value_info("row", given.type.tensor_type.elem_type, dims[1:])
    vector = helper.make_tensor_value_info("vector", TensorProto.FLOAT, _dims(result)[1:])
    nodes = [
        helper.make_node("Reshape", ["row", "one_row"], [f"{given.name}.one"]),
        *_renamed(graph.node, {given.name: f"{given.name}.one", result.name: f"{result.name}.one"}),
        helper.make_node("Reshape", [f"{result.name}.one", "one_vector"], ["vector"]),
    ]
    # What the nodes read from outside the body are the weights, which stay where they are.
    body = helper.make_graph(nodes, "one", [row], [vector])
    scan = helper.make_node("Scan", [given.name], [result.name], body=body, num_scan_inputs=1)
    outer = helper.make_graph([scan], graph.name, [given, *weights], [result])
    outer.initializer.extend(graph.initializer)
    outer.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return helper.make_model(outer, opset_imports=list(whole.opset_import), ir_version=whole.ir_version)


def _between(
    inner: ModelProto,
    tower: Tower,
    prefix: Prefix,
    given: ValueInfoProto,
    before: Sequence[NodeProto],
    constants: dict[str, npt.NDArray[Any]],
) -> ModelProto:
    whole = ModelProto()
    whole.CopyFrom(inner)
    graph = whole.graph
    weights = [value for value in graph.input if value.name not in {prefix + name for name in tower.graph.inputs}]
    after, more = _after(prefix + tower.output, tower)
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.extend([given, *weights])
    graph.output.append(helper.make_tensor_value_info(EMBEDDINGS, TensorProto.FLOAT, ["batch", tower.dimensions]))
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in {**constants, **more}.items())
    return whole


def _after(output: str, tower: Tower) -> tuple[list[NodeProto], dict[str, npt.NDArray[Any]]]:
    """Whatever type its vectors have -> float32, of unit length."""
    if tower.unit_length:
        return [helper.make_node("Cast", [output], [EMBEDDINGS], to=TensorProto.FLOAT)], {}
    constants: dict[str, npt.NDArray[Any]] = {"shortest": np.array(_SHORTEST, np.float32)}
    inputs = ["vectors"]
    attributes: dict[str, Any] = {"axes": [-1]}
    if tower.graph.opset >= _NORM_AXES_ARE_AN_INPUT:
        constants["last_axis"] = np.array([-1], np.int64)
        inputs, attributes = ["vectors", "last_axis"], {}
    nodes = [
        helper.make_node("Cast", [output], ["vectors"], to=TensorProto.FLOAT),
        helper.make_node("ReduceL2", inputs, ["norms"], keepdims=1, **attributes),
        helper.make_node("Max", ["norms", "shortest"], ["lengths"]),
        helper.make_node("Div", ["vectors", "lengths"], [EMBEDDINGS]),
    ]
    return nodes, constants


def _leading_to(graph: GraphProto, output: str) -> list[NodeProto]:
    """The nodes that an output depends on, each after those whose outputs it reads; files may have another order."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    order: list[int] = []
    seen: set[int] = set()
    stack = [(makers[output], False)] if output in makers else []
    while stack:
        index, is_ready = stack.pop()
        if is_ready:
            order.append(index)
        elif index not in seen:
            seen.add(index)
            stack.append((index, True))
            stack += [(makers[name], False) for name in _reads(graph.node[index]) if name in makers]
    return [graph.node[index] for index in order]


def _keep_what_leads_to(graph: GraphProto, output: str) -> None:
    kept = [_copied(node) for node in _leading_to(graph, output)]
    wanted = {output, *(name for node in kept for name in _reads(node))}
    del graph.node[:]
    graph.node.extend(kept)
    for field in (graph.initializer, graph.input):
        for index in reversed(range(len(field))):  # what stays is not copied: it may be large
            if field[index].name not in wanted:
                del field[index]
    for index in reversed(range(len(graph.output))):
        if graph.output[index].name != output:
            del graph.output[index]


def _put_before_names(graph: GraphProto, prefix: str) -> None:
    for node in graph.node:
        node.name = node.name and prefix + node.name
        node.input[:] = [name and prefix + name for name in node.input]  # one that is left out has none
        node.output[:] = [name and prefix + name for name in node.output]
        for inner in graphs_within(node):
            _put_before_names(inner, prefix)
    for named in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        named.name = prefix + named.name


def _reads(node: NodeProto) -> Iterable[str]:
    """All names that a node or a graph within it reads."""
    yield from (name for name in node.input if name)
    for inner in graphs_within(node):
        yield from (value.name for value in inner.output)  # one may be a name from outside
        for part in inner.node:
            yield from _reads(part)


def needed_inputs(graph: GraphFile, output: str) -> set[str]:
    """The inputs that an output depends on."""
    nodes = _leading_to(graph.proto.graph, output)
    return {output, *(name for node in nodes for name in _reads(node))} & set(graph.inputs)


def _renamed(nodes: Iterable[NodeProto], names: dict[str, str]) -> Iterable[NodeProto]:
    for node in nodes:
        copy = _copied(node)
        copy.input[:] = [names.get(name, name) for name in node.input]
        copy.output[:] = [names.get(name, name) for name in node.output]
        yield copy


def _copied(node: NodeProto) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    return copy


def _dims(value: ValueInfoProto) -> list[int | str]:
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in value.type.tensor_type.shape.dim]
