"""Fused graphs: exact or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from model.__main__ import app
from model.bundle import Bundle
from model.checkpoints.checkpoint import Options
from model.checkpoints.importer import import_checkpoint
from model.runtime.engine import Engine
from model.variants.make_variant import make_variant
from model.variants.options import VariantError, VariantOptions
from tests.model.checkpoints.transformers.siglip_models import random_model, save, small_text, small_vision
from tests.model.variants.conftest import Make

FUSED = VariantOptions("fp32", fused=True)


def test_fused_graphs_have_the_operators_and_the_vectors(vit: Bundle, make: Make) -> None:
    variant = make(vit, FUSED)
    report = variant.manifest.variant
    assert report is not None
    assert report.image.fused == {"MultiHeadAttention": 2, "QuickGelu": 2, "SkipLayerNormalization": 3}
    assert report.text.fused == report.image.fused
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (3, 48, 48, 3), np.uint8)
    first, second = Engine(vit, "cpu"), Engine(variant, "cpu")
    np.testing.assert_allclose(second.embed_images(pixels), first.embed_images(pixels), atol=1e-5)
    for length in (2, 3, 20, 77):
        ids = rng.integers(1, 1000, (2, length))
        ids[:, -1] = 1023
        np.testing.assert_allclose(second.embed_texts(ids), first.embed_texts(ids), atol=1e-5)


def test_norms_stay_in_float32_where_the_tower_is_in_half_precision(vit: Bundle, make: Make) -> None:
    report = make(vit, VariantOptions("fp16", fused=True)).manifest.variant
    assert report is not None
    assert report.image.fused == {"MultiHeadAttention": 2, "QuickGelu": 2}
    assert report.image.min_cosine > 0.9999


def test_a_graph_that_is_not_exact_is_refused(vit: Bundle, tmp_path: Path) -> None:
    with pytest.raises(VariantError, match=r"fused graphs differ by \d\.\d\de-\d+, more than 1e-12"):
        make_variant(vit, tmp_path / "to", FUSED, lambda step: None, fusion_tolerance=1e-12)
    assert not list(tmp_path.iterdir())


def test_only_the_text_tower_of_a_convolutional_model_is_fused(resnet: Bundle, make: Make) -> None:
    report = make(resnet, FUSED).manifest.variant
    assert report is not None
    assert report.image.fused == {}
    assert report.text.fused == {"Gelu": 2, "MultiHeadAttention": 2, "SkipLayerNormalization": 3}


def test_siglip_is_fused_and_quantised_with_texts_padded_as_its_tower_wants(tmp_path: Path) -> None:
    model = random_model(small_text(), small_vision())
    save(model, tmp_path / "siglip")
    source, _ = import_checkpoint(tmp_path / "siglip", tmp_path / "source", Options())
    made = CliRunner().invoke(app, ["optimize", str(source.path), "--precision", "int8", "--fused"])
    assert made.exit_code == 0, made.output
    variant = Bundle.load(tmp_path / "source-int8-fused")
    report = variant.manifest.variant
    assert report is not None
    assert report.text.fused["MultiHeadAttention"] == model.config.text_config.num_hidden_layers
    assert report.text.fused["FastGelu"] == model.config.text_config.num_hidden_layers
    assert min(report.image.mean_cosine, report.text.mean_cosine) > 0.99  # rows cut or padded otherwise: below 0.9
    assert variant.id == f"{source.id}-int8-fused"
