"""Graphs of a library's network with attention as one operator, found in the nodes that our exporter writes for it.

onnxruntime fuses norms and activations itself when it opens a graph; its patterns of attention are other exporters'.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

DOMAIN = "com.microsoft"
TOKENS_FIRST = [0, 2, 1, 3]  # [batch, heads, tokens, width] <-> [batch, tokens, heads, width]


class _Attention(NamedTuple):
    """Names of [batch, heads, tokens, width], and the transpose back to tokens first that ends it."""

    query: str
    key: str
    key_tokens_first: bool  # it is [batch, tokens, heads, width]
    value: str
    bias: str  # a mask that is added to the scores; empty where there is none
    flat_bias: bool  # it is [queries, tokens] alone
    scale: float
    heads: int
    end: NodeProto


def fuse_attention(proto: onnx.ModelProto) -> None:
    """Write each attention of a graph as MultiHeadAttention, in place, and take out what nobody reads then."""
    ends = _Matcher(proto).attentions()
    nodes: list[NodeProto] = []
    for node in proto.graph.node:
        attention = ends.get(node.output[0]) if node.output else None
        nodes.extend(_fused(attention) if attention else [node])
    if ends:
        heads = {attention.heads for attention in ends.values()}
        shapes = {_FLAT: [0, 0, -1], _FIRST_AXES: [0, 1]} | {_apart(count): [0, 0, count, -1] for count in heads}
        proto.graph.initializer.extend(numpy_helper.from_array(np.array(v), name) for name, v in shapes.items())
        if not any(one.domain == DOMAIN for one in proto.opset_import):
            proto.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    needed, kept = {output.name for output in proto.graph.output}, []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(kept[::-1])


_FLAT, _FIRST_AXES = "fused.flat", "fused.first_axes"


def _apart(heads: int) -> str:
    return f"fused.apart_{heads}"


def _fused(attention: _Attention) -> Iterator[NodeProto]:
    """The operator takes queries [batch, tokens, width of all heads], and gives the same."""
    end, key, bias = attention.end.output[0], attention.key, attention.bias
    yield helper.make_node("Transpose", [attention.query], [f"{end}.query"], name=f"{end}.turn", perm=TOKENS_FIRST)
    yield helper.make_node("Reshape", [f"{end}.query", _FLAT], [f"{end}.flat"], name=f"{end}.flatten")
    if attention.key_tokens_first:
        key = f"{end}.key"
        yield helper.make_node("Transpose", [attention.key], [key], name=f"{end}.turn_key", perm=TOKENS_FIRST)
    if bias and attention.flat_bias:
        bias = f"{end}.bias"
        yield helper.make_node("Unsqueeze", [attention.bias, _FIRST_AXES], [bias], name=f"{end}.widen")
    yield helper.make_node(
        "MultiHeadAttention",
        [f"{end}.flat", key, attention.value, *(["", "", bias] if bias else [])],
        [f"{end}.mixed"],
        name=f"{end}.attention",
        domain=DOMAIN,
        num_heads=attention.heads,
        scale=attention.scale,
    )
    yield helper.make_node("Reshape", [f"{end}.mixed", _apart(attention.heads)], [end], name=f"{end}.part")


def _ints(node: NodeProto, name: str) -> list[int]:
    return next((list(attribute.ints) for attribute in node.attribute if attribute.name == name), [])


class _Matcher:
    def __init__(self, proto: onnx.ModelProto) -> None:
        graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
        self._producers = {name: node for node in proto.graph.node for name in node.output}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in proto.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._shapes = {
            value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
            for value in (*graph.value_info, *graph.input)
        }
        self._constants = {tensor.name: tensor for tensor in proto.graph.initializer}
        self._softmaxes = [node for node in proto.graph.node if node.op_type == "Softmax"]

    def attentions(self) -> dict[str, _Attention]:
        """Those of the graph, by the name of what they give."""
        found = [self._match(softmax) for softmax in self._softmaxes]
        return {attention.end.output[0]: attention for attention in found if attention}

    def _match(self, softmax: NodeProto) -> _Attention | None:
        """The attention around a softmax; None where it is of another form."""
        shape = self._shapes.get(softmax.input[0], [])
        product, transposed = self._reader(softmax, "MatMul"), None
        if product is not None and product.input[0] == softmax.output[0]:
            transposed = self._reader(product, "Transpose")
        if product is None or transposed is None or len(shape) != 4 or not shape[1]:
            return None
        if _ints(transposed, "perm") != TOKENS_FIRST:
            return None
        scores, bias = self._producers.get(softmax.input[0]), ""
        if scores is not None and scores.op_type == "Add":
            scores, bias = self._masked(scores)
        if scores is None or scores.op_type != "MatMul":
            return None
        keys = self._producers.get(scores.input[1])
        if keys is None or keys.op_type != "Transpose" or _ints(keys, "perm") not in ([0, 1, 3, 2], [0, 2, 3, 1]):
            return None
        tokens_first = _ints(keys, "perm") == [0, 2, 3, 1]
        query, scale = self._scaled(scores.input[0])
        flat = len(self._shapes.get(bias, [])) == 2
        return _Attention(query, keys.input[0], tokens_first, product.input[1], bias, flat, scale, shape[1], transposed)

    def _masked(self, add: NodeProto) -> tuple[NodeProto | None, str]:
        """The product that is masked, and the mask, which must have its own of each query."""
        first, second = add.input
        scores = self._producers.get(first)
        shape = self._shapes.get(second, [])
        if scores is None or scores.op_type != "MatMul" or len(shape) not in (2, 4) or shape[-2] == 1:
            return None, ""
        return scores, second

    def _scaled(self, name: str) -> tuple[str, float]:
        node = self._producers.get(name)
        if node is not None and node.op_type == "Mul" and node.input[1] in self._constants:
            factor = numpy_helper.to_array(self._constants[node.input[1]])
            if factor.size == 1:
                return node.input[0], float(factor.reshape(()))
        return name, 1.0

    def _reader(self, node: NodeProto, kind: str) -> NodeProto | None:
        """The one node that reads the output of `node`, if it is of that kind."""
        readers = self._readers.get(node.output[0], [])
        return readers[0] if len(readers) == 1 and readers[0].op_type == kind else None
