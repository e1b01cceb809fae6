"""Where onnxruntime-gpu itself runs the nodes of our graphs: `make test-gpu-build` installs it and runs this.

Without a GPU, stand-ins take the place of CUDA's libraries: sessions open, and what they would give is zeros.
"""

from __future__ import annotations

import ctypes
import logging
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest

from model.bundle import Bundle, bundled
from model.manifest import IMAGE_GRAPH, TEXT_GRAPH, WEIGHTS
from model.runtime import cuda
from model.runtime.engine import Engine, EngineError
from model.runtime.placement import nodes_on_cpu, record_placement
from model.runtime.providers import PROVIDERS
from model.variants.make_variant import make_variant
from model.variants.options import VariantOptions
from tests.gpu import nvidia_stand_ins, write_kernels
from tests.gpu.conftest import Exported
from tests.gpu.exports import FAMILIES, FORMS
from tests.gpu.former_export import former_export
from tests.gpu.scan import Graph, kernels

CUDA = PROVIDERS["cuda"]
pytestmark = pytest.mark.skipif(
    CUDA not in ort.get_available_providers(), reason="this onnxruntime has no CUDA: make test-gpu-build"
)


@pytest.fixture(scope="module", autouse=True)
def libraries(tmp_path_factory: pytest.TempPathFactory) -> bool:
    """Those of the machine where it has a driver, otherwise stand-ins; says whether it is they."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        nvidia_stand_ins.load(tmp_path_factory.mktemp("nvidia"))
        return True
    return False


def on_cpu(folder: Path, graph: str) -> dict[str, int]:
    options = ort.SessionOptions()
    record_placement(options)
    weights = (folder / WEIGHTS).read_bytes()
    options.add_external_initializers_from_files_in_memory([WEIGHTS], [weights], [len(weights)])
    session = ort.InferenceSession((folder / graph).read_bytes(), options, providers=[CUDA, PROVIDERS["cpu"]])
    assert session.get_providers()[0] == CUDA
    return nodes_on_cpu(session)


@pytest.fixture(autouse=True)
def a_gpu_that_could_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as anybody asks: the stand-ins have no driver that describes one."""
    monkeypatch.setattr(cuda, "problem", lambda key, device: "")
    monkeypatch.setattr(Engine, "_find_gpu", lambda engine: None)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_no_node_of_an_export_is_left_to_the_cpu(family: str, form: str, exported: Exported) -> None:
    folder = exported(family, form)
    for graph in (IMAGE_GRAPH, TEXT_GRAPH):
        assert on_cpu(folder, graph) == {}


def test_the_bundled_checkpoint_runs_on_cuda_throughout() -> None:
    engine = Engine(Bundle.load(bundled()), "cuda")
    assert engine.provider == CUDA
    assert engine.fallback_nodes == {"image": {}, "text": {}}


def test_a_node_that_is_left_to_the_cpu_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(former_export(tmp_path / "former"), "cuda")
    assert engine.fallback_nodes == {"image": {}, "text": {"ArgMax": 1}}
    assert "of the text tower CUDAExecutionProvider left 1 of its nodes to the CPU" in caplog.text
    assert "1 ArgMax" in caplog.text


def test_int8_is_refused_and_left_to_the_cpu_where_no_provider_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    variant = make_variant(Bundle.load(bundled()), tmp_path / "int8", VariantOptions("int8"), lambda step: None)
    for graph in (IMAGE_GRAPH, TEXT_GRAPH):
        proto = onnx.load(variant.path / graph, load_external_data=False)
        assert on_cpu(variant.path, graph) == Counter(node.operator for node in Graph(proto).missing())
    with pytest.raises(EngineError, match="optimize"):
        Engine(variant, "cuda")
    with caplog.at_level(logging.WARNING):
        assert Engine(variant, "auto").provider == PROVIDERS["cpu"]
    assert "served on the CPU" in caplog.text


def test_the_kernels_in_the_table_are_those_of_the_library(libraries: bool) -> None:
    if not libraries:
        pytest.skip("asking the library for its kernels needs TensorRT, too, or the stand-ins")
    found = write_kernels.table()
    for operator in (
        "ArgMax",
        "MatMulInteger",
        "MatMul",
        "Conv",
        "Softmax",
        "Gelu",
        "com.microsoft.MultiHeadAttention",
    ):
        assert found[operator] == kernels()[operator]
    assert found == kernels()
