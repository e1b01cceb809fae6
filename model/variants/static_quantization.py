"""int8 convolutions, with ranges of activations that were found on pictures.

Ranges found anew in every run, as for matrices, make convolutions slower than they are in fp32: 0.7 to 1.0 times as
fast, against 2.4 to 2.6 times with fixed ranges.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from model.variants.options import VariantError

OPERATORS = ["Conv", "MatMul", "Gemm", "Add", "Relu", "AveragePool"]
BATCH = 8
MAX_PROTOBUF_BYTES = 2_000_000_000


def quantize_convolutions(graph: Path, pixels: npt.NDArray[np.uint8]) -> onnx.ModelProto:
    """An image graph in int8, weights inside, calibrated on pixels [pictures, size, size, 3].

    Raises VariantError for a graph that no protobuf can hold.
    """
    proto = onnx.load(graph)
    if proto.ByteSize() > MAX_PROTOBUF_BYTES:
        raise VariantError(f"{graph.name} is larger than 2 GB, which onnxruntime's calibration cannot read")
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
                op_types_to_quantize=OPERATORS,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        finally:
            root.setLevel(level)
        return onnx.load(quantized)


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, pixels: npt.NDArray[np.uint8]) -> None:
        self._feeds: Iterator[dict[str, Any]] = (
            {name: pixels[start : start + BATCH]} for start in range(0, len(pixels), BATCH)
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)
