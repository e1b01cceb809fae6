"""What a served variant says of itself, in answers and in the log."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.service_process import PATIENCE_S, running
from model.bundle import Bundle, write_manifest
from model.variant_report import TowerReport, VariantReport
from service.models import performance_key

TOWER = TowerReport(
    computes="int8", compared=300, min_cosine=0.91, mean_cosine=0.98, batch=8, alone_min_cosine=0.99, speed_ratio=2.5
)
REPORT = VariantReport(
    made_from="0" * 64,
    made_from_id="the-original",
    precision="int8",
    image=TOWER,
    text=TOWER.model_copy(update={"mean_cosine": 0.999}),
    pictures="a folder",
    labels=100,
    top1_agreement=0.95,
    onnxruntime="1.0",
    provider="CPUExecutionProvider",
    machine="a machine",
    threads=4,
    created="2026-01-01",
)
WARNINGS = ["the activation is a guess", {"no": "text"}, "x" * 1000]


def changed(bundle: Bundle, folder: Path, **fields: Any) -> Bundle:
    """The same files under another manifest."""
    shutil.copytree(bundle.path, folder)
    (folder / "bundle.json").unlink()
    return write_manifest(folder, bundle.manifest.model_dump(mode="json", exclude={"files"}) | fields)


@pytest.fixture
def variant(bundle: Bundle, tmp_path: Path) -> Bundle:
    fields = {"precision": "int8", "weights_dtype": "int8", "variant": REPORT.model_dump(mode="json")}
    return changed(bundle, tmp_path / "variant", id="a-variant", source={"warnings": WARNINGS}, **fields)


def test_a_variant_is_shown_and_warned_of(bundle: Bundle, variant: Bundle, tmp_path: Path) -> None:
    with running(tmp_path, Path(f"{variant.path},{bundle.path}")) as service:
        shown, plain = httpx.get(f"{service.url}/info", timeout=PATIENCE_S).json()["models"]
        log = [json.loads(line) for line in service.log().splitlines()]
    assert shown["variant"] == {
        "precision": "int8",
        "fused": False,
        "made_from_id": "the-original",
        "image_mean_cosine": 0.98,
        "image_min_cosine": 0.91,
        "text_mean_cosine": 0.999,
        "text_min_cosine": 0.91,
        "top1_agreement": 0.95,
    }
    assert (shown["precision"], shown["weights_dtype"]) == ("int8", "int8")
    assert shown["source_warnings"] == [WARNINGS[0], "x" * 500]
    assert (plain["variant"], plain["source_warnings"]) == (None, [])
    assert plain["weights_dtype"] == bundle.manifest.weights_dtype
    told = [line["message"] for line in log if line["level"] == "warning" and "a-variant: " in line["message"]]
    assert f"a-variant: {WARNINGS[0]}" in told
    assert any("the mean cosine of pictures to the-original is 0.9800" in message for message in told)


def test_warnings_of_a_manifest_that_are_none(bundle: Bundle) -> None:
    for source in ({}, {"warnings": "text"}, {"warnings": None}):
        assert bundle.manifest.model_copy(update={"source": source}).source_warnings == []


def test_a_variant_does_not_keep_theperformance_key_of_its_original(bundle: Bundle, variant: Bundle) -> None:
    again = variant.manifest.model_copy(update={"variant": REPORT.model_copy(update={"created": "2026-01-02"})})
    assert performance_key(again) == performance_key(variant.manifest)
    fused = REPORT.model_copy(update={"text": TOWER.model_copy(update={"fused": {"MultiHeadAttention": 2}})})
    assert performance_key(variant.manifest.model_copy(update={"variant": fused})) != performance_key(variant.manifest)
    assert performance_key(bundle.manifest.model_copy(update={"precision": "fp16"})) != performance_key(bundle.manifest)
    assert performance_key(bundle.manifest) == performance_key(bundle.manifest.model_copy(update={"id": "another"}))
