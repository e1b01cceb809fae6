"""Graphs that run each row by itself: ONNX exports of others for one picture or text."""

from __future__ import annotations

import onnx

from model.bundle import Bundle
from model.manifest import IMAGE_GRAPH, TEXT_GRAPH
from model.variants.options import VariantError, VariantOptions


def refuse_row_by_row(source: Bundle, options: VariantOptions) -> None:
    """Raise VariantError for what changes the nodes of a graph where they are the body of a Scan.

    In bf16, only what weights are stored in changes.
    """
    if options.precision == "bf16" and not options.fused:
        return
    for file in (IMAGE_GRAPH, TEXT_GRAPH):
        graph = onnx.load_from_string(source.read(file)).graph
        if any(node.op_type == "Scan" for node in graph.node):
            raise VariantError(
                f"{source.id} is an ONNX export whose {file} runs each row by itself: only --precision bf16 can be "
                "made of it. Import the checkpoint that it was exported from for others"
            )
