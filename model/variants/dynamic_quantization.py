"""int8 graphs: matrices as integers with one scale a column, activations quantised anew in every run.

The nodes and the numbers are those of onnxruntime's own dynamic quantiser, and pixels, which are integers already, are
multiplied as they are. That quantiser wants the whole model in one protobuf, which ends at 2 GB, and passes over
matrices that a graph makes of its weights; this one reads a tensor at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper

from model.variants.constant_folding import FoldedConstants

Array = npt.NDArray[Any]
# Of a factor: seven bits of the eight, because processors without VNNI add two products in sixteen bits, which larger
# integers overflow. So a variant gives the same vectors on all of them, and its report holds where it is served.
MAX_MATRIX_INT8 = 64
MAX_EMBEDDING_INT8 = 127  # -128 is left out, so that both sides of zero have the same scale
LAYOUT_OPERATORS = ("Slice", "Reshape", "Transpose")  # operators that leave integers what they are


def quantize_graph(proto: onnx.ModelProto, read: Callable[[str], Array]) -> dict[str, Array]:
    """Rewrite a graph whose weights are graph inputs, in place, and return the tensors that it now wants, by name.

    `read` gives the tensor of a name, as it is stored. Matrices of MatMul and Gemm become int8 [inputs, outputs] with
    scales [outputs], embedding tables int8 [ids, width] with scales [ids, 1]. Convolutions and vectors stay; what a
    graph makes of weights alone is stored as it comes out.
    """
    return _GraphQuantizer(proto.graph, read).run()


class _GraphQuantizer:
    def __init__(self, graph: onnx.GraphProto, read: Callable[[str], Array]) -> None:
        self._graph = graph
        self._constants = FoldedConstants(graph, read)
        first = graph.input[0]
        self._bytes = {first.name} if first.type.tensor_type.elem_type == TensorProto.UINT8 else set()
        self._cast_bytes: dict[str, str] = {}  # bytes as floats -> the bytes
        self._quantized: set[str] = set()
        self._tensors: dict[str, Array] = {}
        self._nodes: list[NodeProto] = []

    def run(self) -> dict[str, Array]:
        for node in self._graph.node:
            self._track_bytes(node)
            if not self._constants.folds(node) and not self._replace(node):
                self._nodes.append(node)
        self._drop_unused()
        for node in self._nodes:
            for position, name in enumerate(node.input):
                if self._constants.knows(name):
                    node.input[position] = self._constants.stored_name(name)
                    self._tensors[node.input[position]] = self._constants.value(name)
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(tensor.dtype), tensor.shape)
            for name, tensor in self._tensors.items()
        ]
        del self._graph.node[:], self._graph.input[1:]
        self._graph.node.extend(self._nodes)
        self._graph.input.extend(inputs)
        return self._tensors

    def _track_bytes(self, node: NodeProto) -> None:
        if node.input and node.input[0] in self._bytes:
            if node.op_type in LAYOUT_OPERATORS:
                self._bytes.add(node.output[0])
            elif node.op_type == "Cast":
                self._cast_bytes[node.output[0]] = node.input[0]

    def _drop_unused(self) -> None:
        needed, kept = {output.name for output in self._graph.output}, []
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                kept.append(node)
        self._nodes = kept[::-1]

    def _replace(self, node: NodeProto) -> bool:
        """Append what stands in the place of `node`; False where it stays."""
        source, matrix = [*node.input, "", ""][:2]
        if node.op_type == "Gather" and self._constants.is_matrix(source):
            self._quantize_gather(node)
        elif node.op_type == "MatMul" and self._constants.is_matrix(matrix):
            self._quantize_matmul(node, matrix, transposed=False)
        elif node.op_type == "Gemm" and self._constants.is_matrix(matrix) and _attributes(node).keys() <= {"transB"}:
            self._quantize_matmul(node, matrix, transposed=bool(_attributes(node).get("transB")))
        else:
            return False
        return True

    def _quantize_matmul(self, node: NodeProto, matrix: str, *, transposed: bool) -> None:
        """Integer product of the quantised input and matrix, times both scales; the bias of a Gemm is added."""
        name = self._constants.stored_name(matrix)
        if f"{name}.int8" not in self._tensors:
            value = self._constants.value(matrix)
            integers, scales = quantize(value.T if transposed else value, 0, MAX_MATRIX_INT8)
            self._tensors[f"{name}.int8"], self._tensors[f"{name}.scale"] = integers, scales[0]
        output = node.output[0]
        factor, scale, zero = self._quantized_input(node.input[0])
        self._add("MatMulInteger", [factor, f"{name}.int8", *zero], f"{output}.sum")
        self._add("Cast", [f"{output}.sum"], f"{output}.float", to=TensorProto.FLOAT)
        both = f"{name}.scale"
        if scale:
            both = f"{output}.scale"
            self._add("Mul", [scale, f"{name}.scale"], both)
        bias = list(node.input[2:])
        product = f"{output}.product" if bias else output
        self._add("Mul", [f"{output}.float", both], product)
        if bias:
            self._add("Add", [product, *bias], output)

    def _quantized_input(self, source: str) -> tuple[str, str, list[str]]:
        """The names of a factor as integers, of its scale, which pixels have none of, and of its zero point."""
        if source in self._cast_bytes:
            return self._cast_bytes[source], "", []
        names = f"{source}.int8", f"{source}.scale", f"{source}.zero"
        if source not in self._quantized:  # queries, keys and values of a layer share theirs
            self._quantized.add(source)
            self._add("DynamicQuantizeLinear", [source], *names)
        return names[0], names[1], [names[2]]

    def _quantize_gather(self, node: NodeProto) -> None:
        """Rows of an embedding table, each with its own scale."""
        (table, ids), output, name = node.input, node.output[0], self._constants.stored_name(node.input[0])
        integers, scales = quantize(self._constants.value(table), 1, MAX_EMBEDDING_INT8)
        self._tensors[f"{name}.int8"], self._tensors[f"{name}.scale"] = integers, scales
        self._add("Gather", [f"{name}.int8", ids], f"{output}.int8")
        self._add("Gather", [f"{name}.scale", ids], f"{output}.scale")
        self._add("Cast", [f"{output}.int8"], f"{output}.float", to=TensorProto.FLOAT)
        self._add("Mul", [f"{output}.float", f"{output}.scale"], output)

    def _add(self, kind: str, inputs: list[str], *outputs: str, **attributes: Any) -> None:
        self._nodes.append(helper.make_node(kind, inputs, outputs, name=f"{outputs[0]}.{kind}", **attributes))


def quantize(matrix: Array, axis: int, largest: int) -> tuple[Array, Array]:
    """Round to -largest .. largest by the magnitudes along `axis`: int8, and scales with that axis of length 1."""
    matrix = matrix.astype(np.float32)
    scales = np.abs(matrix).max(axis=axis, keepdims=True) / largest
    scales[scales == 0] = 1
    integers = np.rint(matrix / scales).clip(-largest, largest).astype(np.int8)
    return np.ascontiguousarray(integers), scales


def _attributes(node: NodeProto) -> dict[str, Any]:
    """Those that are not at their default, as far as the operators above have defaults of 0 and 1."""
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    neutral = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0, "axis": 0}
    return {name: value for name, value in values.items() if neutral.get(name) != value}
