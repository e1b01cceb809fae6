"""Preprocessing settings, written so that open_clip and transformers load them, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoImageProcessor, CLIPProcessor, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from model.checkpoints import pixels
from model.checkpoints.checkpoint import CheckpointError, Options
from model.config import Preprocessing
from tests.model.checkpoints.test_pixels import FROM_CLIP, FROM_SIGLIP, changed

ALL = [
    FROM_CLIP,
    FROM_SIGLIP,
    changed(FROM_CLIP, interpolation="bilinear", size=97, mean=(0, 0, 0), std=(1, 1, 1)),
    changed(FROM_CLIP, resize_mode="squash", mean=(0.1, 0.2, 0.3)),
    changed(FROM_CLIP, resize_size=256),
    changed(FROM_CLIP, resize_size=346, size=289, resize_mode="squash"),
]
NAMES = ["clip", "siglip", "plain", "squash", "crop", "squash and crop"]


@pytest.mark.parametrize("config", ALL, ids=NAMES)
def test_written_for_transformers(config: Preprocessing, tmp_path: Path) -> None:
    cfg = pixels.to_transformers(config)
    assert pixels.from_transformers(cfg, config.size, Options()) == config
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(cfg))
    loaded = AutoImageProcessor.from_pretrained(tmp_path)
    siglip = config.resize_mode == "squash" and config.resize_size is None
    assert isinstance(loaded, SiglipImageProcessorPil if siglip else CLIPImageProcessorPil)
    assert pixels.from_transformers(loaded.to_dict(), config.size, Options()) == config


def test_processor_config_as_transformers_saves_it(tmp_path: Path) -> None:
    processor = CLIPProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 97}, crop_size=97), tokenizer=CLIPTokenizer()
    )
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert "image_processor" in saved
    assert pixels.from_transformers(saved, 97, Options()) == changed(FROM_CLIP, size=97)


PADDED = changed(FROM_CLIP, resize_mode="longest", fill_color=127)


@pytest.mark.parametrize("config", [*ALL[:4], PADDED], ids=[*NAMES[:4], "longest"])
def test_written_for_openclip(config: Preprocessing, open_clip: Any) -> None:
    cfg = pixels.to_openclip(config)
    known = open_clip.transform.PreprocessCfg(**cfg)
    assert (known.size, known.resize_mode) == (config.size, config.resize_mode)
    # open_clip cuts at the rounded half.
    assert pixels.from_openclip(cfg, config.size, Options()) == changed(config, crop="round")


def test_what_a_format_has_no_field_for_is_not_written() -> None:
    with pytest.raises(CheckpointError, match=r"resize_size 256 .*for open_clip.*--format transformers"):
        pixels.to_openclip(ALL[4])
    with pytest.raises(CheckpointError, match=r"resize_mode 'longest' .*for transformers.*--format openclip"):
        pixels.to_transformers(PADDED)
