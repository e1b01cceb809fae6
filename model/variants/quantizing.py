"""int8 graphs: matrices as integers with one scale a column, activations quantised anew in every run.

The nodes and the numbers are those of onnxruntime's own dynamic quantiser. That one wants the whole model in one
protobuf, which ends at 2 GB, and passes over matrices that a graph transposes; this one reads a tensor at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper

Array = npt.NDArray[Any]
# Of a factor: seven bits of the eight, because processors without VNNI add two products in sixteen bits, which larger
# integers overflow. So a variant gives the same vectors on all of them, and its report holds where it is served.
LARGEST = 64
LARGEST_LOOKED_UP = 127  # -128 is left out, so that both sides of zero have the same scale


def quantize_graph(proto: onnx.ModelProto, read: Callable[[str], Array]) -> dict[str, Array]:
    """Rewrite a graph whose weights are graph inputs, in place, and return the tensors that it now wants, by name.

    `read` gives the tensor of a name, as it is stored. Matrices of MatMul and Gemm become int8 [inputs, outputs] with
    scales [outputs], embedding tables int8 [ids, width] with scales [ids, 1]. Convolutions and vectors stay.
    """
    return _Rewriting(proto.graph, read).run()


class _Rewriting:
    def __init__(self, graph: onnx.GraphProto, read: Callable[[str], Array]) -> None:
        self._graph = graph
        self._read = read
        self._weights = {value.name: value for value in graph.input[1:]}  # the first is the graph's own input
        # Output of a transposition -> the matrix that it transposes.
        self._transposed = {
            node.output[0]: node.input[0]
            for node in graph.node
            if node.op_type == "Transpose" and self._is_matrix(node.input[0])
        }
        self._quantized: set[str] = set()
        self._tensors: dict[str, Array] = {}
        self._nodes: list[NodeProto] = []

    def run(self) -> dict[str, Array]:
        for node in self._graph.node:
            if not self._replace(node):
                self._nodes.append(node)
        needed = {name for node in self._nodes for name in node.input}
        self._nodes = [
            node for node in self._nodes if node.output[0] in needed or node.output[0] not in self._transposed
        ]
        needed = {name for node in self._nodes for name in node.input}
        kept = {name: value for name, value in self._weights.items() if name in needed}
        made = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(tensor.dtype), tensor.shape)
            for name, tensor in self._tensors.items()
        ]
        del self._graph.node[:], self._graph.input[1:]
        self._graph.node.extend(self._nodes)
        self._graph.input.extend([*kept.values(), *made])
        return self._tensors | {name: self._read(name) for name in kept}

    def _replace(self, node: NodeProto) -> bool:
        """Append what stands in the place of `node`; False where it stays."""
        matrix = node.input[1] if len(node.input) > 1 else ""
        if node.op_type == "Gather" and self._is_matrix(node.input[0]):
            self._look_up(node)
        elif node.op_type == "MatMul" and matrix in self._transposed:
            self._multiply(node, self._transposed[matrix], transposed=True)
        elif node.op_type == "MatMul" and self._is_matrix(matrix):
            self._multiply(node, matrix, transposed=False)
        elif node.op_type == "Gemm" and self._is_matrix(matrix) and _attributes(node).keys() <= {"transB"}:
            self._multiply(node, matrix, transposed=bool(_attributes(node).get("transB")))
        else:
            return False
        return True

    def _multiply(self, node: NodeProto, name: str, *, transposed: bool) -> None:
        """Integer product of the quantised input and matrix, times both scales; the bias of a Gemm is added."""
        if f"{name}.int8" not in self._tensors:
            matrix = self._read(name)
            integers, scales = quantize(matrix.T if transposed else matrix, 0, LARGEST)
            self._tensors[f"{name}.int8"], self._tensors[f"{name}.scale"] = integers, scales[0]
        source, output = node.input[0], node.output[0]
        if source not in self._quantized:  # queries, keys and values of a layer share theirs
            self._quantized.add(source)
            self._add("DynamicQuantizeLinear", [source], f"{source}.int8", f"{source}.scale", f"{source}.zero")
        self._add("MatMulInteger", [f"{source}.int8", f"{name}.int8", f"{source}.zero"], f"{output}.sum")
        self._add("Cast", [f"{output}.sum"], f"{output}.float", to=TensorProto.FLOAT)
        self._add("Mul", [f"{source}.scale", f"{name}.scale"], f"{output}.scale")
        bias = list(node.input[2:])
        product = f"{output}.product" if bias else output
        self._add("Mul", [f"{output}.float", f"{output}.scale"], product)
        if bias:
            self._add("Add", [product, *bias], output)

    def _look_up(self, node: NodeProto) -> None:
        """Rows of an embedding table, each with its own scale."""
        (name, ids), output = node.input, node.output[0]
        self._tensors[f"{name}.int8"], self._tensors[f"{name}.scale"] = quantize(self._read(name), 1, LARGEST_LOOKED_UP)
        self._add("Gather", [f"{name}.int8", ids], f"{output}.int8")
        self._add("Gather", [f"{name}.scale", ids], f"{output}.scale")
        self._add("Cast", [f"{output}.int8"], f"{output}.float", to=TensorProto.FLOAT)
        self._add("Mul", [f"{output}.float", f"{output}.scale"], output)

    def _add(self, kind: str, inputs: list[str], *outputs: str, **attributes: Any) -> None:
        self._nodes.append(helper.make_node(kind, inputs, outputs, name=f"{outputs[0]}.{kind}", **attributes))

    def _is_matrix(self, name: str) -> bool:
        return name in self._weights and len(self._weights[name].type.tensor_type.shape.dim) == 2


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
