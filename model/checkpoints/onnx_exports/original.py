"""The exported graphs as those who exported them run them: float pixels, padded rows, masks of the tokens' number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnx import helper

from model.checkpoints.checkpoint import CheckpointError, naming
from model.checkpoints.onnx_exports.graph_file import GraphFile
from model.checkpoints.onnx_exports.towers import Tower
from model.config import Preprocessing
from model.runtime.processor import usable_cores
from model.runtime.session import session_options

Vectors = npt.NDArray[np.float32]


@dataclass
class Original:
    """A graph file in a session of its own, untouched."""

    graph: GraphFile
    session: Any
    further: Mapping[str, npt.NDArray[Any]]  # for the inputs of the other tower, where one file has both

    @classmethod
    def open(cls, graph: GraphFile, further: Mapping[str, npt.NDArray[Any]] | None = None) -> Original:
        """Open the file. Raises CheckpointError where onnxruntime does not take it."""
        with naming(graph.file):
            try:
                session = ort.InferenceSession(
                    str(graph.file.absolute()),
                    session_options(usable_cores()),
                    ["CPUExecutionProvider"],
                    enable_fallback=0,  # or it prints what it raises
                )
            except Exception as error:  # onnxruntime raises a dozen unrelated classes
                raise CheckpointError(f"onnxruntime {ort.__version__} does not open it: {error}") from error
        return cls(graph, session, further or {})

    def run(self, output: str, feeds: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """One output for these inputs, as it comes. Raises CheckpointError."""
        with naming(self.graph.file):
            try:
                value: npt.NDArray[Any] = self.session.run([output], {**self.further, **feeds})[0]
            except Exception as error:
                raise CheckpointError(f"it does not run on {_shapes(feeds)}: {error}") from error
        return value


def image_feeds(tower: Tower, preprocessing: Preprocessing, picture: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """The input for one picture [size, size, 3]: normalised with numpy."""
    mean, std = np.array(preprocessing.mean, np.float32), np.array(preprocessing.std, np.float32)
    scaled = (picture.astype(np.float32) / 255 - mean) / std
    return {tower.values: scaled.transpose(2, 0, 1)[None].astype(_dtype(tower, tower.values))}


def text_feeds(tower: Tower, row: Sequence[int], pad_id: int, length: int) -> dict[str, Any]:
    """The inputs for one row of ids, padded to `length`."""
    ids = np.full((1, length), pad_id, _dtype(tower, tower.values))
    ids[0, : len(row)] = row
    feeds = {tower.values: ids}
    if tower.mask is not None:
        feeds[tower.mask] = (np.arange(length) < len(row))[None].astype(_dtype(tower, tower.mask))
    if tower.types is not None:
        feeds[tower.types] = np.zeros((1, length), _dtype(tower, tower.types))
    return feeds


def unit(vectors: npt.NDArray[Any]) -> Vectors:
    """In float32 and of unit length."""
    floats = vectors.astype(np.float32)
    normalised: Vectors = floats / np.maximum(np.linalg.norm(floats, axis=-1, keepdims=True), 1e-12)
    return normalised


def _dtype(tower: Tower, name: str) -> np.dtype[Any]:
    dtype: np.dtype[Any] = helper.tensor_dtype_to_np_dtype(tower.graph.inputs[name].dtype)
    return dtype


def _shapes(feeds: Mapping[str, npt.NDArray[Any]]) -> str:
    return ", ".join(f"{name} {list(value.shape)} of {value.dtype}" for name, value in feeds.items())
