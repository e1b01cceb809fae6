"""Models of open_clip that our networks do not compute: imported with open_clip, held against its own outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from model import smoke_inputs
from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.importer import import_checkpoint
from model.library_config import LibraryConfig
from model.runtime.engine import Engine
from tests.model.checkpoints.openclip.models import TEXT, TEXTS, VIT, build, save_folder, vary

CONVNEXT = {"timm_model_name": "convnext_atto", "timm_pool": "", "timm_proj": "linear", "image_size": 64}
CONFIGURATIONS = {
    "convnext": {"embed_dim": 32, "vision_cfg": CONVNEXT, "text_cfg": TEXT},
    "layer scale": vary(vision={"ls_init_value": 0.1}, text={"ls_init_value": 0.1}),
    "no norm before the blocks": vary(vision={"no_ln_pre": True}),
    "pooled by average": vary(vision={"pool_type": "avg"}),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_folder_embeds_as_open_clip_does(open_clip: Any, tmp_path: Path, name: str) -> None:
    network = build(open_clip, CONFIGURATIONS[name])
    folder = save_folder(network, CONFIGURATIONS[name], tmp_path / "model", weights="open_clip_model.safetensors")
    bundle, warnings = import_checkpoint(folder, tmp_path / "bundle", Options())
    assert not warnings
    config = bundle.manifest.config
    assert isinstance(config, LibraryConfig)
    assert (config.library, config.text.fixed_length) == ("open_clip", False)
    engine, tokenizer = Engine(bundle, "cpu"), bundle.tokenizer()
    pixels = smoke_inputs.pixels(bundle.preprocessing, 3)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (bundle.preprocessing.mean, bundle.preprocessing.std))
    tokens = open_clip.tokenizer.SimpleTokenizer(context_length=77)(TEXTS)
    ids = tokenizer.pad([tokenizer.truncate(row) for row in tokenizer.encode(TEXTS)])
    with torch.no_grad():
        images = network.encode_image((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std)
        texts = network.encode_text(tokens)
    for theirs, ours in ((images, engine.embed_images(pixels)), (texts, engine.embed_texts(ids))):
        np.testing.assert_allclose(ours, F.normalize(theirs, dim=-1).numpy(), atol=1e-5)


def test_what_neither_computes_is_refused_with_both_reasons(open_clip: Any, tmp_path: Path) -> None:
    folder = save_folder(
        build(open_clip, VIT),
        vary(vision={"pool_type": "gap"}),
        tmp_path / "model",
        weights="open_clip_model.safetensors",
    )
    with pytest.raises(CheckpointError, match=r"pool_type.*open_clip .* cannot build it"):
        import_checkpoint(folder, tmp_path / "bundle", Options())
