"""ONNX graphs whose initialisers are the tensors of a safetensors file, by offset, without a second copy."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

ONNX_TYPE = {"F32": TensorProto.FLOAT, "F16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16}


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
        wanted = value.type.tensor_type.elem_type
        if stored.data_type != wanted:
            stored.name = f"{value.name}.stored"
            casts.append(helper.make_node("Cast", [stored.name], [value.name], name=f"{value.name}.cast", to=wanted))
        graph.initializer.append(stored)
        graph.input.remove(value)
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _read_header(file: Path) -> tuple[dict[str, Any], int]:
    """Tensors by name, and where their bytes begin. Layout: length as little-endian u64, JSON, bytes."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return header, 8 + length
