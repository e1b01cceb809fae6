"""Graphs in half precision, made of graphs: of a network that is not ours there is none in torch to be rounded.

Every operator computes in fp16 but for those that leave its range or lose in it: powers and means, what they are part
of up to the next matrix, and what comes before the first and after the last weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from model.variants.options import VariantError

Array = npt.NDArray[Any]
MAX_FP16 = float(np.finfo(np.float16).max)
MASKED = -1e30  # a score of that or less is hidden: in fp16 it is minus infinity, which does the same
INSTEAD = "use --precision bf16, whose range is that of fp32, or int8"
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
# Squares and sums of many values leave the range of fp16; the last two want a float for their sizes, or are of numbers.
WIDE = frozenset(
    ("Pow", "Exp", "Log", "Sqrt", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare",
     "ReduceLogSumExp", "SkipLayerNormalization", "SimplifiedLayerNormalization", "LpNormalization", "Resize", "CumSum")
)  # fmt: skip
# They take the precision of what they get: a wide input makes them wide.
ELEMENTWISE = frozenset(
    ("Abs", "Add", "Cast", "Clip", "Concat", "Div", "Erf", "Expand", "Identity", "Max", "Min", "Mul", "Neg", "Relu",
     "Reshape", "Sigmoid", "Slice", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Where")
)  # fmt: skip
QUANTIZED = ("DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear", "MatMulInteger", "ConvInteger")


class Float16Graph(NamedTuple):
    """What became of a graph: its weights by name, and the names of what it computes in fp16."""

    tensors: dict[str, Array]
    narrow: list[str]
    wide: tuple[str, ...]  # the operators that it computes in fp32 between its weights


def to_float16(proto: onnx.ModelProto, read: Callable[[str], Array]) -> Float16Graph:
    """Rewrite a graph whose weights are graph inputs, in place: those become float16, as most that is made of them.

    `read` gives the weight of a name. Raises VariantError naming a weight that is too large for fp16, or a node that is
    not understood.
    """
    return _Float16(proto, read).run()


class _Float16:
    def __init__(self, proto: onnx.ModelProto, read: Callable[[str], Array]) -> None:
        self._graph: GraphProto = proto.graph
        self._read = read
        self._weights = {value.name for value in proto.graph.input[1:] if value.type.tensor_type.elem_type == FLOAT}
        inferred = onnx.shape_inference.infer_shapes(proto).graph
        self._known = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
        self._known |= {value.name: value.type.tensor_type.elem_type for value in proto.graph.output}
        self._constants = {tensor.name: tensor for tensor in proto.graph.initializer if tensor.data_type == FLOAT}
        self._types = dict.fromkeys(self._weights, HALF) | dict.fromkeys(self._constants, FLOAT)
        self._from_weights = set(self._weights)  # what depends on them; the rest is normalisation, masks and positions
        self._standing = _standing_norms(proto.graph.node)
        self._kept: set[str] = set()
        self._cast: dict[tuple[str, int], str] = {}
        self._nodes: list[NodeProto] = []

    def run(self) -> Float16Graph:
        tensors = {name: self._narrow(name) for name in sorted(self._weights)}
        tail = _after_last(self._graph.node, self._weights)
        for position, node in enumerate(self._graph.node):
            self._refuse(node)
            self._add(node, last=position in tail)
        output = self._graph.output[0].name
        if self._types.get(output) == HALF:  # a graph that ends in a weight
            self._nodes[-1].output[0] = f"{output}.narrow"
            self._nodes.append(
                helper.make_node("Cast", [f"{output}.narrow"], [output], name=f"{output}.cast", to=FLOAT)
            )
        del self._graph.node[:], self._graph.value_info[:]
        self._graph.node.extend(self._nodes)
        for value in self._graph.input[1:]:
            if value.name in self._weights:
                value.type.tensor_type.elem_type = HALF
        made = [name for node in self._nodes for name in node.output]
        narrow = [name for name in made if self._types.get(name) == HALF and name in self._from_weights]
        return Float16Graph(tensors, narrow, tuple(sorted(self._kept)))

    def _refuse(self, node: NodeProto) -> None:
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise VariantError(f"{node.name} ({node.op_type}) holds a graph, which is not computed in fp16: {INSTEAD}")
        if node.op_type in QUANTIZED or node.op_type.startswith("QLinear"):
            raise VariantError(f"{node.name} ({node.op_type}) is of a graph that is quantised already")

    def _narrow(self, name: str) -> Array:
        value = self._read(name).astype(np.float32)
        largest = np.abs(np.where(value <= MASKED, 0, value)).max(initial=0)
        if not largest <= MAX_FP16:  # written so that NaN fails too
            raise VariantError(f"{name} reaches {largest:.3g}, fp16 ends at {MAX_FP16:.0f}: {INSTEAD}")
        return value.astype(np.float16)

    def _add(self, node: NodeProto, last: bool) -> None:
        floats = [name for name in node.input if name in self._types]
        derived = [name for name in floats if name in self._from_weights]
        spread = any(self._types[name] == FLOAT and name not in self._constants for name in derived)
        early = not any(name in self._from_weights for name in node.input)
        wide = (
            last
            or early
            or node.op_type in WIDE
            or node.name in self._standing
            or (node.op_type in ELEMENTWISE and spread)
        )
        dtype = FLOAT if wide else HALF
        if wide and not early and not last and node.op_type not in ELEMENTWISE:
            self._kept.add(node.op_type)
        for position, name in enumerate(node.input):
            if name in self._types and self._types[name] != dtype:
                node.input[position] = self._as(name, dtype)
        target = next((attribute.i for attribute in node.attribute if attribute.name == "to"), 0)
        if node.op_type == "Cast" and target == FLOAT:
            dtype = FLOAT
        for name in node.output:
            if not early:
                self._from_weights.add(name)
            if self._known.get(name, FLOAT if floats else 0) == FLOAT:
                self._types[name] = dtype
        self._nodes.append(node)

    def _as(self, name: str, dtype: int) -> str:
        """The tensor of that name in another precision, made once."""
        key = name, dtype
        if key not in self._cast:
            self._cast[key] = f"{name}.{'half' if dtype == HALF else 'wide'}"
            if name in self._constants:
                self._graph.initializer.append(_clipped(self._constants[name], self._cast[key]))
            else:
                self._nodes.append(
                    helper.make_node("Cast", [name], [self._cast[key]], name=f"{self._cast[key]}.cast", to=dtype)
                )
        return self._cast[key]


def _clipped(tensor: TensorProto, name: str) -> TensorProto:
    value = numpy_helper.to_array(tensor)
    finite = np.where(np.isfinite(value), value.clip(-MAX_FP16, MAX_FP16), value)
    return numpy_helper.from_array(finite.astype(np.float16), name)


def _standing_norms(nodes: Iterable[NodeProto]) -> set[str]:
    """Names of batch norms that are not folded into a convolution: in fp16 onnxruntime 1.32 fails to fuse attention."""
    readers = Counter(name for node in nodes for name in node.input)
    convolved = {node.output[0] for node in nodes if node.op_type == "Conv" and readers[node.output[0]] == 1}
    return {node.name for node in nodes if node.op_type == "BatchNormalization" and node.input[0] not in convolved}


def _after_last(nodes: Iterable[NodeProto], weights: set[str]) -> set[int]:
    """The positions of nodes that neither read a weight nor are read by a node that does, or leads to one."""
    listed, before, tail = list(nodes), set[str](), set[int]()
    for position in range(len(listed) - 1, -1, -1):
        node = listed[position]
        if weights.intersection(node.input) or before.intersection(node.output):
            before.update(node.input)
        else:
            tail.add(position)
    return tail
