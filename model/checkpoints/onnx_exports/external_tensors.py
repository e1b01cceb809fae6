"""The tensors of an ONNX graph that lie in files beside it: found where they may be, and mapped into memory."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper

from model.checkpoints.checkpoint import CheckpointError
from model.export.external_data import ONNX_TYPE, SMALLEST_TENSOR
from model.files import open_regular_file

MAX_BYTES = 2**31 - 1  # of one protobuf, and so of one tensor


def read_external(proto: ModelProto, file: Path, folder: Path) -> dict[str, npt.NDArray[Any]]:
    """The large tensors of the graph in `file` that lie in other files, of `folder`; small ones move into the graph.

    They are mapped, not read: models of several gigabytes would not fit twice. Raises CheckpointError for a place that
    is outside of `folder`, and for tensors that are not all there.
    """
    mapped: dict[str, npt.NDArray[Any]] = {}
    sizes: dict[Path, int] = {}
    total = 0
    for tensor in proto.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        place = {entry.key: entry.value for entry in tensor.external_data}
        where = f"its tensor {tensor.name!r:.100}"
        source = _inside(place.get("location", ""), file, folder, where)
        sizes[source] = source.stat().st_size if source.is_file() else 0
        offset, length = _extent(tensor, place, where)
        content = _map(source, offset, length, where)
        total += length
        if total > 2 * sum(sizes.values()):  # weights that are used twice may be listed twice
            raise CheckpointError(f"its tensors have {total} bytes in files of {sum(sizes.values())}: it is forged")
        if length >= SMALLEST_TENSOR and tensor.data_type in ONNX_TYPE.values():
            dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            mapped[tensor.name] = content.view(dtype).reshape(tuple(tensor.dims))
            continue
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT
        tensor.raw_data = content.tobytes()
    return mapped


def _extent(tensor: TensorProto, place: Mapping[str, str], where: str) -> tuple[int, int]:
    """Where its bytes begin, and how many they are."""
    size = math.prod(tensor.dims) * _bits(tensor, where) // 8 if min(tensor.dims, default=0) >= 0 else -1
    try:
        offset = int(place.get("offset", 0))
        length = int(place.get("length", size))
    except ValueError as error:
        raise CheckpointError(f"{where} begins at {place.get('offset')!r:.40}, which is no number") from error
    if length != size or offset < 0 or not 0 <= size <= MAX_BYTES:
        raise CheckpointError(f"{where} of dimensions {list(tensor.dims)[:8]} has {length} bytes at {offset}")
    return offset, length


def _map(source: Path, offset: int, length: int, where: str) -> npt.NDArray[np.uint8]:
    if not length:
        return np.zeros(0, np.uint8)
    try:
        with open_regular_file(source) as stream:
            missing = offset + length - os.fstat(stream.fileno()).st_size
            if missing > 0:
                raise CheckpointError(f"{where} ends {missing} bytes after {source}: that file is truncated")
            return np.memmap(stream, np.uint8, "r", offset, (length,))
    except OSError as error:
        raise CheckpointError(f"{where} is in {source}, which cannot be read: {error.strerror or error}") from error


def _bits(tensor: TensorProto, where: str) -> int:
    try:
        dtype: np.dtype[np.generic] = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{where} is of the unknown type {tensor.data_type}") from error
    narrow: dict[int, int] = {TensorProto.INT4: 4, TensorProto.UINT4: 4, TensorProto.FLOAT4E2M1: 4}
    if dtype.hasobject:
        raise CheckpointError(f"{where} holds texts")
    return narrow.get(tensor.data_type) or 8 * int(dtype.itemsize)


def _inside(location: str, file: Path, folder: Path, where: str) -> Path:
    """The file at a location that a graph names: beside it or below. In the hub's cache, all files are links."""
    parts = Path(location).parts
    if not parts or Path(location).is_absolute() or ".." in parts or "\\" in location:
        raise CheckpointError(f"{where} is in {location!r:.200}, which is not beside the graph")
    source, root = file.parent / location, folder.resolve()
    if root.parent.name == "snapshots":
        root = root.parents[1]
    if not source.resolve().is_relative_to(root):
        raise CheckpointError(f"{where} is in {location!r:.200}, a link out of {folder}")
    return source
