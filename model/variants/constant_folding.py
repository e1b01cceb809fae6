"""Constant folding: the parts of a graph that depend on its weights alone, such as transposed and scaled matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, numpy_helper
from onnx.reference import ReferenceEvaluator

Array = npt.NDArray[Any]


class FoldedConstants:
    """The weights of a graph, which are its inputs but for the first, and what nodes compute from them alone."""

    def __init__(self, graph: onnx.GraphProto, read: Callable[[str], Array]) -> None:
        """`read` gives a weight, as it is stored. Nothing is read before it is asked for, and nothing is kept."""
        self._read = read
        self._weights = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.input[1:]}
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._producers: dict[str, NodeProto] = {}
        self._roots = {name: name for name in self._weights}
        self._stored_names: dict[str, str] = {}
        for node in graph.node:
            roots = [self._roots[name] for name in node.input if name in self._roots]
            if roots and all(name in self._roots or name in self._initializers for name in node.input):
                self._producers |= dict.fromkeys(node.output, node)
                self._roots |= dict.fromkeys(node.output, roots[0])

    def folds(self, node: NodeProto) -> bool:
        """Whether all inputs of a node are weights, constants or folded from them."""
        return node.output[0] in self._producers

    def knows(self, name: str) -> bool:
        """Whether a tensor is a weight, or folded from one."""
        return name in self._roots

    def is_matrix(self, name: str) -> bool:
        """Whether a known tensor has two dimensions."""
        if name in self._weights:
            return self._weights[name] == 2
        return self.knows(name) and self.value(name).ndim == 2

    def value(self, name: str) -> Array:
        """The tensor of that name, in float32."""
        if name in self._weights:
            return self._read(name).astype(np.float32, copy=False)
        if name in self._initializers:
            constant: Array = numpy_helper.to_array(self._initializers[name])
            return constant
        node = self._producers[name]
        outputs: Any = ReferenceEvaluator(node).run(None, {one: self.value(one) for one in node.input})
        value: Array = outputs[list(node.output).index(name)]
        return value

    def stored_name(self, name: str) -> str:
        """Its name where it is stored: that of the weight that it was made of, numbered where there are several."""
        if name not in self._stored_names:
            root = self._roots[name]
            others = sum(self._roots[one] == root for one in self._stored_names)
            self._stored_names[name] = f"{root}.{others}" if others else root
        return self._stored_names[name]
