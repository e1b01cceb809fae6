"""The bundled checkpoint as an earlier release exported it: the end of a text was looked for among integers."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx

from model.bundle import Bundle, bundled, write_manifest
from model.manifest import TEXT_GRAPH, read_manifest


def former_export(folder: Path) -> Bundle:
    """Write it into a new folder."""
    shutil.copytree(bundled(), folder)
    proto = onnx.load(folder / TEXT_GRAPH, load_external_data=False)
    [end] = [node for node in proto.graph.node if node.op_type == "ArgMax"]
    end.input[0] = "token_ids"
    onnx.save(proto, folder / TEXT_GRAPH)
    return write_manifest(folder, read_manifest(folder).model_dump(mode="json", exclude={"files"}))
