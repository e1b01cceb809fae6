"""Preprocessing of all pretrained tags against open_clip's own list, and what its configurations leave open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model.checkpoints import pixels
from model.checkpoints.checkpoint import Options
from model.checkpoints.openclip.pretrained import preprocess_cfg
from model.config import Preprocessing


def test_every_tag_is_prepared_as_open_clip_does_it(open_clip: Any) -> None:
    tags, transform = open_clip.pretrained.list_pretrained(), open_clip.transform
    assert len(tags) > 190
    different = 0
    for architecture, tag in tags:
        published = open_clip.pretrained.get_pretrained_cfg(architecture, tag)
        full = transform.merge_preprocess_dict(transform.PreprocessCfg(), published)
        expected = pixels.from_openclip({**full, "size": 224}, 224, Options())
        assert pixels.from_openclip(preprocess_cfg(architecture, tag), 224, Options()) == expected, (architecture, tag)
        different += expected != Preprocessing(size=224)
    assert different > 50


def test_names_are_taken_as_open_clip_takes_them() -> None:
    assert preprocess_cfg("ViT-L/14", "laion2b-s32b-b82k") == preprocess_cfg("ViT-L-14", "laion2b_s32b_b82k") != {}
    assert preprocess_cfg("ViT-H-14-378-quickgelu", "DFN5B") == {"resize_mode": "squash"}
    assert preprocess_cfg("ViT-L-14-336", "laion2b_s32b_b82k") == preprocess_cfg("RN50", "none") == {}


def test_model_configurations_say_nothing_of_it_and_are_of_squares(open_clip: Any) -> None:
    files = sorted(Path(open_clip.__file__).parent.glob("model_configs/*.json"))
    assert len(files) >= 144
    for file in files:
        content = json.loads(file.read_text("utf-8"))
        said = set(content) | set(content["vision_cfg"])
        assert not said & {"mean", "std", "image_mean", "image_std", "interpolation", "resize_mode", "preprocess_cfg"}
        pixels.from_openclip(
            {"size": content["vision_cfg"]["image_size"]}, content["vision_cfg"]["image_size"], Options()
        )
