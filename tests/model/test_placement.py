"""What a GPU is not given, and what is said of nodes that a provider left to the CPU. tests/gpu asks the real one."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime as ort
import pytest

from model.bundle import Bundle, bundled, write_manifest
from model.manifest import read_manifest
from model.runtime.engine import Engine, EngineError
from model.runtime.placement import nodes_on_cpu, report_fallback, suited
from model.variant_report import TowerReport, VariantReport

ALL = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


def variant(folder: Path, precision: str, made_from: str = "a" * 64) -> Bundle:
    """The bundled checkpoint under the manifest of a variant."""
    shutil.copytree(bundled(), folder)
    tower = TowerReport(
        computes="int8", compared=1, min_cosine=1, mean_cosine=1, batch=1, alone_min_cosine=1, speed_ratio=1
    )
    report = VariantReport(
        made_from=made_from, made_from_id="source", precision=precision, image=tower, text=tower, pictures="",
        labels=1, top1_agreement=1, onnxruntime="", provider="", machine="", threads=1, created="",
    )  # fmt: skip
    fields = read_manifest(folder).model_dump(mode="json", exclude={"files"})
    return write_manifest(folder, {**fields, "id": folder.name, "precision": precision, "variant": report})


@pytest.fixture
def with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ALL)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
@pytest.mark.usefixtures("with_cuda")
def test_int8_stops_the_start_on_a_gpu_and_the_error_says_how_to_make_what_runs_there(
    tmp_path: Path, provider: str
) -> None:
    bundle = variant(tmp_path / "vit-int8", "int8")
    with pytest.raises(EngineError) as refused:
        Engine(bundle, provider)
    assert "vit-int8 is int8" in str(refused.value)
    assert "python -m model optimize SOURCE --precision fp16" in str(refused.value)
    assert "the folder of source" in str(refused.value)
    assert "SIGHTWORD_PROVIDER=cpu" in str(refused.value)


@pytest.mark.usefixtures("with_cuda")
def test_the_error_names_the_fp16_variant_of_the_same_source_where_there_is_one(tmp_path: Path) -> None:
    bundle = variant(tmp_path / "vit-int8", "int8")
    variant(tmp_path / "other-fp16", "fp16", made_from="b" * 64)
    variant(tmp_path / "vit-bf16", "bf16")
    (tmp_path / "a file").write_text("and no folder")
    found = variant(tmp_path / "vit-fp16", "fp16")
    with pytest.raises(EngineError, match=rf"SIGHTWORD_MODEL={found.path};"):
        Engine(bundle, "cuda")


@pytest.mark.usefixtures("with_cuda")
def test_int8_goes_to_the_cpu_where_no_provider_is_named_and_a_warning_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(variant(tmp_path / "vit-int8", "int8"), "auto")
    assert engine.provider == "CPUExecutionProvider"
    [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "served on the CPU" in warning.getMessage()
    assert "python -m model optimize" in warning.getMessage()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_all_else_goes_where_it_was_going(precision: str) -> None:
    whole = Bundle.load(bundled())
    bundle = dataclasses.replace(whole, manifest=whole.manifest.model_copy(update={"precision": precision}))
    assert suited(["tensorrt", "cuda", "cpu"], "tensorrt", bundle) == ["tensorrt", "cuda", "cpu"]


def test_int8_stays_on_providers_for_cpus(tmp_path: Path) -> None:
    bundle = variant(tmp_path / "vit-int8", "int8")
    assert suited(["openvino", "cpu"], "openvino", bundle) == ["openvino", "cpu"]
    assert suited(["cpu"], "auto", bundle) == ["cpu"]


def session(*parts: tuple[str, list[tuple[str, str]]]) -> Any:
    """A stand-in for one whose nodes were assigned so."""
    assigned = [
        SimpleNamespace(
            ep_name=provider,
            get_nodes=lambda nodes=nodes: [SimpleNamespace(domain=domain, op_type=name) for domain, name in nodes],
        )
        for provider, nodes in parts
    ]
    return SimpleNamespace(get_providers=lambda: [ALL[1], ALL[2]], get_provider_graph_assignment_info=lambda: assigned)


def test_nodes_on_the_cpu_are_counted_by_operator_without_those_that_compute_shapes() -> None:
    opened = session(
        (ALL[1], [("", "MatMul"), ("", "ArgMax")]),
        (ALL[2], [("", "Concat"), ("", "Squeeze")]),
        (ALL[2], [("", "MatMulInteger"), ("com.microsoft", "QuickGelu"), ("", "MatMulInteger")]),
    )
    assert nodes_on_cpu(opened) == {"MatMulInteger": 2, "com.microsoft.QuickGelu": 1}
    assert nodes_on_cpu(session((ALL[2], [("", "Concat")]))) == {}


def test_a_session_on_the_cpu_is_not_asked() -> None:
    engine = Engine(Bundle.load(bundled()), "cpu")
    assert engine.fallback_nodes == {"image": {}, "text": {}}
    with pytest.raises(Exception, match="must be set"):  # recording takes a third longer to open
        engine.image_session.session.get_provider_graph_assignment_info()


def test_only_towers_with_such_nodes_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    report_fallback(Bundle.load(bundled()), ALL[1], {"image": {}, "text": {"ArgMax": 1, "Erf": 3}})
    [warning] = [record.getMessage() for record in caplog.records]
    assert "of the text tower CUDAExecutionProvider left 4 of its nodes to the CPU" in warning
    assert "1 ArgMax, 3 Erf" in warning
