"""ONNX graphs whose initialisers are the tensors of a safetensors file, by offset, without a second copy."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

ONNX_TYPE = {
    "F32": TensorProto.FLOAT,
    "F16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "I8": TensorProto.INT8,
    "U8": TensorProto.UINT8,
    "I32": TensorProto.INT32,
}
SMALLEST_TENSOR = 1024  # bytes that are worth moving out of a graph


def link_weights(proto: onnx.ModelProto, weights: Path) -> None:
    """Turn each graph input that names a tensor of `weights` into an initialiser stored there.

    A tensor stored in another type than the graph computes in passes through a Cast, which onnxruntime folds when it
    opens the graph.
    """
    header, data_start = _read_header(weights)
    graph = proto.graph
    casts = []
    for value in [value for value in graph.input if value.name in header]:
        entry = header[value.name]
        begin, end = entry["data_offsets"]
        stored = TensorProto(name=value.name, data_type=ONNX_TYPE[entry["dtype"]], dims=entry["shape"])
        stored.data_location = TensorProto.EXTERNAL
        place = {"location": weights.name, "offset": data_start + begin, "length": end - begin}
        for key, item in place.items():
            stored.external_data.add(key=key, value=str(item))
        dtype = value.type.tensor_type.elem_type
        if stored.data_type != dtype:
            stored.name = f"{value.name}.stored"
            casts.append(helper.make_node("Cast", [stored.name], [value.name], name=f"{value.name}.cast", to=dtype))
        graph.initializer.append(stored)
        graph.input.remove(value)
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def unlink_weights(proto: onnx.ModelProto) -> None:
    """Undo `link_weights`: stored initialisers become graph inputs again, of the type that the graph computes in."""
    graph = proto.graph
    casts = {node.input[0]: node for node in graph.node if node.op_type == "Cast"}
    for stored in [tensor for tensor in graph.initializer if tensor.data_location == TensorProto.EXTERNAL]:
        name, dtype = stored.name, stored.data_type
        if name in casts:
            name, dtype = casts[name].output[0], casts[name].attribute[0].i
            graph.node.remove(casts[stored.name])
        graph.input.append(helper.make_tensor_value_info(name, dtype, stored.dims))
        graph.initializer.remove(stored)


def take_out_weights(proto: onnx.ModelProto, prefix: str) -> dict[str, npt.NDArray[Any]]:
    """Move large initialisers out of a graph: they become graph inputs whose names begin with `prefix`, to be linked.

    Returns the tensors by those names.
    """
    graph = proto.graph
    moved = {tensor.name: prefix + tensor.name for tensor in graph.initializer if _is_large(tensor)}
    tensors = {}
    for tensor in [tensor for tensor in graph.initializer if tensor.name in moved]:
        name = moved[tensor.name]
        tensors[name] = numpy_helper.to_array(tensor)
        graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
        graph.initializer.remove(tensor)
    for node in graph.node:
        node.input[:] = [moved.get(name, name) for name in node.input]
    return tensors


def _is_large(tensor: TensorProto) -> bool:
    return tensor.data_type in ONNX_TYPE.values() and len(tensor.raw_data) >= SMALLEST_TENSOR


def _read_header(file: Path) -> tuple[dict[str, Any], int]:
    """Tensors by name, and where their bytes begin. Layout: length as little-endian u64, JSON, bytes."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return header, 8 + length
