"""Variants of models whose networks are a library's: made of their graphs, as close as those of ours, or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import Tensor

from model import smoke_inputs
from model.bundle import Bundle
from model.checkpoints.checkpoint import Options
from model.checkpoints.importer import import_checkpoint
from model.config import Preprocessing
from model.export.bundle import export_bundle
from model.runtime.engine import Engine
from model.tokenizers.clip import Tokenizer
from model.variant_report import VariantReport
from model.variants.make_variant import make_variant
from model.variants.options import VariantError, VariantOptions
from model.variants.static_quantization import is_convolutional
from tests.model.checkpoints.library import onnx_folders
from tests.model.variants.conftest import with_weights
from tests.model.variants.library_networks import CONTEXT, SIZE, VOCABULARY, network

FAMILIES = {
    "convnext": ("convnext_tiny", "clip"),
    "eva": ("eva02_tiny_patch14_224", "mt5"),
    "fastvit": ("fastvit_sa12", "clip"),
    "swin": ("swin_tiny_patch4_window7_224", "roberta"),
}
FLOORS = {"int8": 0.97, "fp16": 0.9999, "bf16": 0.999}
PICTURES = 16
Make = Callable[[str], Bundle]


@pytest.fixture(scope="module")
def source(open_clip: Any, tmp_path_factory: pytest.TempPathFactory) -> Make:
    made: dict[str, Bundle] = {}

    def bundle(family: str) -> Bundle:
        if family not in made:
            folder = tmp_path_factory.mktemp("library") / family
            tokenizer = Tokenizer.clip(VOCABULARY, CONTEXT)
            towers = network(*FAMILIES[family])
            made[family] = export_bundle(towers, folder, tokenizer=tokenizer, preprocessing=Preprocessing(size=SIZE))
        return made[family]

    return bundle


def vary(bundle: Bundle, to: Path, precision: Any, fused: bool = False) -> VariantReport:
    pictures = to.parent / "pictures"  # few, which takes a fraction of the time
    if not pictures.exists():
        pictures.mkdir()
        for i, pixels in enumerate(smoke_inputs.pixels(Preprocessing(size=SIZE), PICTURES)):
            Image.fromarray(pixels).save(pictures / f"{i}.png")
    variant = make_variant(bundle, to, VariantOptions(precision, fused, pictures), lambda step: None)
    Engine(variant, "cpu").warm_up()
    assert variant.manifest.variant is not None
    return variant.manifest.variant


def operators(bundle: Bundle, file: str) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(bundle.path / file, load_external_data=False).graph.node)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", FLOORS)
def test_each_precision_is_close(source: Make, tmp_path: Path, family: str, precision: str) -> None:
    report = vary(source(family), tmp_path / "variant", precision)
    assert min(report.image.min_cosine, report.text.min_cosine) > FLOORS[precision]
    assert max(report.image.min_cosine, report.text.min_cosine) < 1 - 1e-9


def test_what_is_kept_in_float_is_in_the_report(source: Make, tmp_path: Path) -> None:
    report = vary(source("fastvit"), tmp_path / "int8", "int8")
    assert report.image.kept == ("the first convolution", "grouped convolutions", "sums")
    assert report.image.calibration_pictures + report.image.compared == PICTURES
    report = vary(source("convnext"), tmp_path / "other", "int8")
    assert (report.image.kept, report.image.calibration_pictures) == (("convolutions",), 0)
    report = vary(source("eva"), tmp_path / "fp16", "fp16")
    assert {"Pow", "ReduceMean"} <= set(report.text.kept)  # T5's norms square what they get
    assert "Pow, Reciprocal" in report.rows()["text variant"]


def test_a_tower_that_loses_too_much_keeps_its_convolutions(
    source: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.variants.precisions.LOW_COSINE", 1.1)
    report = vary(source("fastvit"), tmp_path / "int8", "int8")
    assert (report.image.kept, report.image.calibration_pictures) == (("convolutions",), 0)


def test_that_a_tower_is_convolutional_is_told_from_its_graph(source: Make) -> None:
    found = {
        family: is_convolutional(onnx.load(source(family).path / "image.onnx", load_external_data=False))
        for family in FAMILIES
    }
    assert found == {"convnext": False, "eva": False, "fastvit": True, "swin": False}


@pytest.mark.parametrize(("family", "towers"), [("eva", (2, 2)), ("convnext", (0, 2)), ("swin", (2, 0))])
def test_attention_is_fused_exactly(source: Make, tmp_path: Path, family: str, towers: tuple[int, int]) -> None:
    bundle = source(family)
    report = vary(bundle, tmp_path / "fused", "fp32", fused=True)
    # Shifted windows have masks of another form; the heads of RoBERTa's attention are not told from its graph.
    counts = tuple(tower.fused.get("MultiHeadAttention", 0) for tower in (report.image, report.text))
    assert counts == towers
    first, second = Engine(bundle, "cpu"), Engine(Bundle.load(tmp_path / "fused"), "cpu")
    ids = np.random.default_rng(0).integers(1, VOCABULARY, (3, 11))
    ids[1, 6:] = 0
    np.testing.assert_allclose(second.embed_texts(ids), first.embed_texts(ids), atol=1e-5)


def test_fused_graphs_are_computed_in_half_precision(source: Make, tmp_path: Path) -> None:
    report = vary(source("eva"), tmp_path / "variant", "fp16", fused=True)
    assert (report.image.fused, report.text.fused) == ({"MultiHeadAttention": 2}, {"MultiHeadAttention": 2})
    assert min(report.image.min_cosine, report.text.min_cosine) > 0.9999


def test_weights_and_activations_beyond_half_precision_are_named(source: Make, tmp_path: Path) -> None:
    def widen(name: str, factor: float) -> Callable[[dict[str, Tensor]], None]:
        return lambda state: state[name].mul_(factor)

    name = "model.image.blocks.0.mlp.fc1.weight"
    large = with_weights(source("eva"), tmp_path / "large", widen(name, 1e7))
    with pytest.raises(VariantError, match=r"fc1\.weight reaches .*, fp16 ends at 65504: use --precision bf16"):
        vary(large, tmp_path / "to", "fp16")
    wide = with_weights(source("eva"), tmp_path / "wide", widen(name, 5e5))
    with pytest.raises(VariantError, match=r"image\.onnx: the output of \S+ \(MatMul\) reaches .*, fp16 ends at 65504"):
        vary(wide, tmp_path / "to", "fp16")
    assert not (tmp_path / "to").exists()


def test_branches_of_fastvit_are_exported_as_one_convolution(source: Make) -> None:
    towers = network(*FAMILIES["fastvit"])
    assert operators(source("fastvit"), "image.onnx")["Conv"] < sum(
        isinstance(module, torch.nn.Conv2d) for module in towers.modules()
    )
    assert source("fastvit").manifest.export.image_max_abs_diff < 1e-5  # to the network with all its branches


def test_attention_of_torch_is_exported_without_its_transposes(source: Make) -> None:
    counts = operators(source("convnext"), "text.onnx")
    assert counts["Gemm"] == 0  # of rows that are flattened first
    assert counts["Softmax"] == 2
    assert source("convnext").manifest.export.text_max_abs_diff < 1e-5


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = onnx_folders.transformers_js(tmp_path_factory.mktemp("js") / "clip", whole=True)
    return import_checkpoint(folder, tmp_path_factory.mktemp("js") / "bundle", Options())[0]


@pytest.mark.parametrize("precision", FLOORS)
def test_each_precision_is_made_of_an_onnx_export_of_others(exported: Bundle, tmp_path: Path, precision: str) -> None:
    report = vary(exported, tmp_path / "variant", precision)
    assert min(report.image.min_cosine, report.text.min_cosine) > FLOORS[precision]
