"""Dual encoders that others have exported to ONNX: both graphs as they are, between our inputs and outputs."""

from model.checkpoints.onnx_exports.folder import OnnxCheckpoint, read_folder
from model.checkpoints.onnx_exports.layouts import find_layout
from model.checkpoints.onnx_exports.write import write_bundle

__all__ = ["OnnxCheckpoint", "find_layout", "read_folder", "write_bundle"]
