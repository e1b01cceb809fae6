"""Whether half precision can hold what a graph computes: tried on inputs, in fp32, whose kernels every device has."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper

from model.manifest import WEIGHTS
from model.variants.float16_graphs import INSTEAD, MASKED, MAX_FP16, Float16Graph
from model.variants.options import VariantError

Array = npt.NDArray[Any]
MATRIX_OPERATORS = ("MatMul", "Gemm", "Conv")
MIN_COSINE = 0.99


def check_range(graph: Path, narrow: Float16Graph, items: Array) -> None:
    """Run the fp32 graph in the file `graph` on `items`. Raises VariantError naming what leaves the range of fp16.

    On a CPU the graph in half precision would not show it: where kernels are missing it computes in fp32.
    """
    proto = onnx.load(graph, load_external_data=False)
    named = {output: node for node in proto.graph.node for output in node.output}
    names = [name for name in narrow.narrow if name in named]
    for kind in ("ReduceMax", "ReduceMin"):
        proto.graph.node.extend(
            helper.make_node(kind, [name], [f"{name}.{kind}"], name=f"{name}.{kind}", keepdims=0) for name in names
        )
    outputs = _run(
        proto, graph.parent, [f"{name}.{kind}" for name in names for kind in ("ReduceMax", "ReduceMin")], items
    )
    for name, largest, smallest in zip(names, outputs[::2], outputs[1::2], strict=True):
        extreme = largest if smallest <= MASKED else np.maximum(largest, -smallest)  # which keeps a NaN
        if not extreme <= MAX_FP16:  # written so that NaN fails too
            raise VariantError(
                f"{graph.name}: the output of {named[name].name} ({named[name].op_type}) reaches {extreme:.3g}, fp16 "
                f"ends at {MAX_FP16:.0f}: {INSTEAD}"
            )


def check_closeness(exact: Path, narrow: Path, items: Array) -> None:
    """Run both graphs on `items`. Raises VariantError where fp16 loses too much, naming the first node that does."""
    first, second = (onnx.load(file, load_external_data=False) for file in (exact, narrow))
    output = first.graph.output[0].name
    [vectors], [others] = _run(first, exact.parent, [output], items), _run(second, narrow.parent, [output], items)
    if np.isfinite(others).all() and _cosine(vectors, others) >= MIN_COSINE:
        return
    kept = {name for node in second.graph.node for name in node.output}
    nodes = [node for node in first.graph.node if node.op_type in MATRIX_OPERATORS and node.output[0] in kept]
    names = [node.output[0] for node in nodes]
    wide, half = (_run(proto, file.parent, names, items[:1]) for proto, file in ((first, exact), (second, narrow)))
    lost = [node for node, one, other in zip(nodes, wide, half, strict=True) if not _cosine(one, other) >= MIN_COSINE]
    node = lost[0] if lost else first.graph.node[-1]
    raise VariantError(
        f"{exact.name}: in fp16 the output of {node.name} ({node.op_type}) has little to do with what it is in fp32: "
        f"{INSTEAD}"
    )


def _run(proto: onnx.ModelProto, folder: Path, names: Iterable[str], items: Array) -> list[Array]:
    """The tensors of those names."""
    known = {output.name for output in proto.graph.output}
    wanted = list(names)
    proto = _copy(proto)
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in known)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Fusions of more than that take what is asked for out of the graph.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    content = (folder / WEIGHTS).read_bytes()
    options.add_external_initializers_from_files_in_memory([WEIGHTS], [content], [len(content)])
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[Array] = session.run(wanted, {proto.graph.input[0].name: items})
    return outputs


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    return copied


def _cosine(vectors: Array, others: Array) -> float:
    """The smallest cosine of two arrays' rows, without what a mask hides."""
    one, other = (np.nan_to_num(array.astype(np.float64), neginf=0.0) for array in (vectors, others))
    one, other = one.reshape(len(one), -1), other.reshape(len(other), -1)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / np.maximum(lengths, 1e-30)).min())
