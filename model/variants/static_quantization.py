"""int8 convolutions, with ranges of activations that were found on pictures.

Ranges found anew in every run, as for matrices, make convolutions slower than they are in fp32: 0.7 to 1.0 times as
fast, against 2.4 to 2.6 times with fixed ranges.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import NodeProto
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from model.variants.options import VariantError

BATCH = 8
MAX_PROTOBUF_BYTES = 2_000_000_000


class Quantization(NamedTuple):
    """Which operators become int8; `kept` says which of those stay in float32 nevertheless, for people."""

    operators: Sequence[str]
    keeps: Callable[[NodeProto, bool], bool]  # of a node, and whether it is the first convolution
    kept: tuple[str, ...] = ()


def _is_grouped(node: NodeProto) -> bool:
    return any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)


# ResNets have no grouped convolutions, and sums between their layers, which int8 makes faster.
WHOLE = Quantization(("Conv", "MatMul", "Gemm", "Add", "Relu", "AveragePool"), lambda node, is_first: False)
# In int8 depthwise convolutions are no faster, sums are slower, and the pixels' own convolution loses most.
MIXED = Quantization(
    ("Conv", "MatMul", "Gemm"),
    lambda node, is_first: is_first or _is_grouped(node),
    ("the first convolution", "grouped convolutions", "sums"),
)


def is_convolutional(proto: onnx.ModelProto) -> bool:
    """Whether a tower computes mostly in convolutions, told from its graph: depthwise ones are a small part of any."""
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv" and not _is_grouped(node)]
    return len(convolutions) > sum(node.op_type in ("MatMul", "Gemm") for node in proto.graph.node)


def quantization_of(proto: onnx.ModelProto) -> Quantization:
    """How a convolutional tower is quantised."""
    return MIXED if any(node.op_type == "Conv" and _is_grouped(node) for node in proto.graph.node) else WHOLE


def mean_cosine(graph: Path, quantized: onnx.ModelProto, pixels: npt.NDArray[np.uint8]) -> float:
    """Of the vectors of the graph in the file to those of a quantised one, on pixels [pictures, size, size, 3]."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    sources = (str(graph), quantized.SerializeToString())
    sessions = [ort.InferenceSession(source, options, providers=["CPUExecutionProvider"]) for source in sources]
    vectors, others = (session.run(None, {quantized.graph.input[0].name: pixels})[0] for session in sessions)
    return float((vectors * others).sum(axis=1).mean())


def quantize_convolutions(
    graph: Path, pixels: npt.NDArray[np.uint8], quantization: Quantization = WHOLE
) -> onnx.ModelProto:
    """An image graph in int8, weights inside; activations have the ranges of these pixels [pictures, size, size, 3].

    Raises VariantError for a graph that no protobuf can hold.
    """
    proto = onnx.load(graph)
    if proto.ByteSize() > MAX_PROTOBUF_BYTES:
        raise VariantError(
            f"{graph.name} is larger than 2 GB, which onnxruntime cannot read to measure the ranges of its activations"
        )
    root, level = logging.getLogger(), logging.getLogger().level
    with TemporaryDirectory(prefix="sightword-") as folder:
        whole, prepared, quantized = (Path(folder) / name for name in ("whole.onnx", "prepared.onnx", "int8.onnx"))
        onnx.save(proto, whole)
        root.setLevel(logging.ERROR)  # it advises the preparation that was made
        try:
            quant_pre_process(whole, prepared, skip_symbolic_shape=True)  # folds the batch norms into the convolutions
            quantize_static(
                prepared,
                quantized,
                _Batches(proto.graph.input[0].name, pixels),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(quantization.operators),
                nodes_to_exclude=_excluded(onnx.load(prepared), quantization),
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        finally:
            root.setLevel(level)
        return onnx.load(quantized)


def _excluded(proto: onnx.ModelProto, quantization: Quantization) -> list[str]:
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    return [node.name for i, node in enumerate(convolutions) if quantization.keeps(node, i == 0)]


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, pixels: npt.NDArray[np.uint8]) -> None:
        self._feeds: Iterator[dict[str, Any]] = (
            {name: pixels[start : start + BATCH]} for start in range(0, len(pixels), BATCH)
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)
