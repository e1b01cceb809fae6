"""Which nodes of an exported graph CUDA has no kernel for, by the schemas of operators and by cuda_kernels.json."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import onnx
from onnx import NodeProto, TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as state

KERNELS = Path(__file__).parent / "cuda_kernels.json"
NAMES = {
    number: onnx.helper.tensor_dtype_to_string(number).removeprefix("TensorProto.").lower()
    for number in TensorProto.DataType.values()
    if number
}


class Missing(NamedTuple):
    """A node without a kernel, and the types that there would have to be one for."""

    name: str
    operator: str
    types: tuple[tuple[str, str], ...]
    of_shapes: bool  # what it computes comes from shapes and constants alone


class Graph:
    """A graph with the types of its values, and which of them are computed from shapes alone."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._opsets = {each.domain: each.version for each in proto.opset_import}
        self._nodes = proto.graph.node
        self.types = {value.name: NAMES[value.type.tensor_type.elem_type] for value in proto.graph.input}
        self.types |= {tensor.name: NAMES[tensor.data_type] for tensor in proto.graph.initializer}
        self._constants = {tensor.name for tensor in proto.graph.initializer}
        self._of_shapes: set[str] = set()

    def missing(self) -> list[Missing]:
        """The nodes that CUDA has no kernel for."""
        return list(self._scan())

    def _scan(self) -> Iterator[Missing]:
        for node in self._nodes:
            schema = _schema(node.domain, node.op_type, self._opsets[node.domain])
            bound = self._bind(node, schema)
            of_shapes = self._note(node)
            if node.op_type != "Constant" and not _has_kernel(node, bound):
                operator = f"{node.domain}.{node.op_type}".removeprefix(".")
                yield Missing(node.name, operator, tuple(sorted(bound.items())), of_shapes)

    def _bind(self, node: NodeProto, schema: Any) -> dict[str, str]:
        """The type of each parameter of the operator; writes down those of the node's outputs."""
        bound: dict[str, str] = {}
        for name, parameter in zip(node.input, _repeated(schema.inputs, len(node.input)), strict=False):
            if name:
                bound[parameter.typeStr] = self.types[name]
        for name, parameter in zip(node.output, _repeated(schema.outputs, len(node.output)), strict=False):
            if name:
                self.types[name] = bound.setdefault(parameter.typeStr, "") or _own_type(node, parameter)
                bound[parameter.typeStr] = self.types[name]
        return bound

    def _note(self, node: NodeProto) -> bool:
        inputs = [name for name in node.input if name]
        if node.op_type == "Constant" or all(name in self._constants for name in inputs):
            self._constants.update(node.output)
            return False
        known = self._constants | self._of_shapes
        if node.op_type not in ("Shape", "Size") and not all(name in known for name in inputs):
            return False
        self._of_shapes.update(node.output)
        return True


def _own_type(node: NodeProto, parameter: Any) -> str:
    """The type of an output that no input has: the only one that there may be, or what an attribute says."""
    if len(parameter.types) == 1:
        return _short(*parameter.types)
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if "to" in attributes:
        return NAMES[attributes["to"]]
    if "value" in attributes:
        return NAMES[attributes["value"].data_type]
    return "int64" if any(name.startswith("value_int") for name in attributes) else "float"


def _has_kernel(node: NodeProto, bound: dict[str, str]) -> bool:
    operator = f"{node.domain}.{node.op_type}".removeprefix(".")
    return any(
        all(bound[name] in kinds for name, kinds in kernel.items() if name in bound)
        for kernel in kernels().get(operator, [])
    )


def _repeated(parameters: Any, count: int) -> list[Any]:
    """The last parameter as often as there are values: it stands for any number of them."""
    listed = list(parameters)
    return listed + listed[-1:] * (count - len(listed))


def _short(kind: str) -> str:
    return kind.removeprefix("tensor(").removesuffix(")")


@cache
def kernels() -> dict[str, list[dict[str, list[str]]]]:
    found: dict[str, list[dict[str, list[str]]]] = json.loads(KERNELS.read_text())["kernels"]
    return found


def _schema(domain: str, operator: str, opset: int) -> Any:
    return max(
        (each for each in _schemas()[domain, operator] if each.since_version <= opset),
        key=lambda each: each.since_version,
    )


@cache
def _schemas() -> dict[tuple[str, str], list[Any]]:
    """Of all operators that onnxruntime knows, those of com.microsoft too, which are in no package of onnx."""
    found = defaultdict(list)
    for schema in state.get_all_operator_schema():
        found[schema.domain, schema.name].append(schema)
    return found
