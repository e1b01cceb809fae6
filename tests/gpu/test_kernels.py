"""CUDA has a kernel for every node of the graphs that we export in fp32, fp16 and bf16, and for few of int8."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from model.bundle import Bundle, bundled
from model.manifest import IMAGE_GRAPH, TEXT_GRAPH
from model.runtime.placement import SHAPE_OPERATORS
from model.variants.make_variant import make_variant
from model.variants.options import VariantOptions
from tests.gpu.conftest import Exported
from tests.gpu.exports import FAMILIES, FORMS
from tests.gpu.scan import Graph, Missing, kernels
from tests.model.conftest import TINY_VIT, random_network


def missing(folder: Path, graph: str) -> list[Missing]:
    return Graph(onnx.load(folder / graph, load_external_data=False)).missing()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_node_of_an_export_has_a_kernel(family: str, form: str, exported: Exported) -> None:
    folder = exported(family, form)
    for graph in (IMAGE_GRAPH, TEXT_GRAPH):
        assert missing(folder, graph) == []


@pytest.mark.parametrize("graph", [IMAGE_GRAPH, TEXT_GRAPH])
def test_every_node_of_the_bundled_checkpoint_has_a_kernel(graph: str) -> None:
    assert missing(bundled(), graph) == []


def test_most_products_of_an_int8_variant_have_none(tmp_path: Path) -> None:
    variant = make_variant(Bundle.load(bundled()), tmp_path / "int8", VariantOptions("int8"), lambda step: None)
    of_texts = missing(variant.path, TEXT_GRAPH)
    counts = Counter(node.operator for node in of_texts)
    assert set(counts) == {"DynamicQuantizeLinear", "MatMulInteger"}
    assert {node.types for node in of_texts if node.operator == "MatMulInteger"} == {
        (("T1", "uint8"), ("T2", "int8"), ("T3", "int32"))
    }
    assert counts["MatMulInteger"] >= 4 * variant.manifest.config.text.layers
    # The convolutions are computed in fp32, from int8 and back, but for their biases, which are int32.
    assert {node.operator for node in missing(variant.path, IMAGE_GRAPH)} == {"DequantizeLinear"}


def test_a_node_without_a_kernel_is_found_and_told_apart_from_one_that_computes_shapes() -> None:
    nodes = [
        helper.make_node("Shape", ["ids"], ["shape"]),
        helper.make_node("ArgMax", ["shape"], ["longest"], name="of a shape"),
        helper.make_node("ArgMax", ["ids"], ["end"], name="of ids"),
        helper.make_node("Cast", ["ids"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ArgMax", ["floats"], ["same end"], name="of floats"),
    ]
    ids, end = (helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in ("ids", "end"))
    proto = helper.make_model(
        helper.make_graph(nodes, "ends", [ids], [end]), opset_imports=[helper.make_opsetid("", 20)]
    )
    assert [(node.name, node.of_shapes) for node in Graph(proto).missing()] == [("of a shape", True), ("of ids", False)]


@pytest.mark.parametrize("operator", sorted(SHAPE_OPERATORS))
def test_what_is_taken_for_shapes_on_the_cpu_is_there_by_choice(operator: str) -> None:
    """CUDA could run it on any data of ours: only for shapes onnxruntime does not let it."""
    supported = {kind for kernel in kernels()[operator] for kind in kernel.get("T", ())}
    assert {"float", "float16", "int64"} <= supported


@torch.no_grad()
def test_the_first_of_the_largest_ids_ends_a_text() -> None:
    network = random_network(TINY_VIT)
    end = TINY_VIT.text.vocab_size - 1
    ids = torch.tensor([[end - 1, 5, end, 7, end, 0, end], [end - 1, end, 0, 0, 0, 0, 0], [3, 2, 1, 0, 0, 0, 0]])
    alone = [network.encode_text(ids[:1, :3]), network.encode_text(ids[1:2, :2]), network.encode_text(ids[2:, :1])]
    torch.testing.assert_close(network.encode_text(ids), torch.cat(alone))
