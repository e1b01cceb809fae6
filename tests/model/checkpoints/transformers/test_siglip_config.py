"""config.json of a SiglipModel: what is read, and what is refused at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.transformers.config import read_config
from tests.model.checkpoints.transformers.siglip_models import small_text, small_vision

FILE = Path("config.json")
SIGLIP: dict[str, Any] = {
    "model_type": "siglip",
    "architectures": ["SiglipModel"],
    "text_config": small_text(),
    "vision_config": small_vision(),
}


def test_the_shape_of_so400m_is_understood() -> None:
    vision = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
    text = {**vision, "vocab_size": 32000}
    content = {"text_config": text, "vision_config": {**vision, "image_size": 384, "patch_size": 14}}
    said = read_config({"model_type": "siglip", **content}, FILE, Options(), "so400m")
    assert said.config.image.grid == 27
    assert (said.config.image.mlp_width, said.config.embed_dim) == (4304, 1152)
    assert (said.config.activation, said.config.text_activation) == ("gelu_tanh", None)


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "of variable resolution": ({"model_type": "siglip2", "architectures": ["Siglip2Model"]}, "NaFlex"),
    "a tower alone": ({"architectures": ["SiglipVisionModel"]}, "text tower is missing"),
    "of classes": ({"architectures": ["SiglipForImageClassification"]}, "fixed list of classes"),
    "without the head": ({"vision_config": small_vision(vision_use_head=False)}, "vision_use_head"),
    "of other lengths": ({"text_config": small_text(projection_size=20)}, "projection_size is 20"),
    "an activation of its own": ({"text_config": small_text(hidden_act="relu")}, "text_config.hidden_act is 'relu'"),
    "not square": ({"vision_config": small_vision(image_size=[50, 64])}, "only squares"),
    "no patch": ({"vision_config": small_vision(image_size=10)}, "smaller than patch_size"),
    "of grey pictures": ({"vision_config": small_vision(num_channels=1)}, "num_channels"),
    "uneven heads": ({"vision_config": small_vision(num_attention_heads=5)}, "not a multiple of heads"),
    "endless": ({"text_config": small_text(num_hidden_layers=100_000)}, "num_hidden_layers"),
    "without a name": ({"architectures": None, "auto_map": {"AutoModel": "x.Y"}}, "an unnamed model"),
    "of words": ({"text_config": small_text(hidden_size="48")}, "hidden_size"),
    "quantised": ({"quantization_config": {}}, "quantised"),
    "with code": ({"model_type": "siglip", "architectures": ["MyModel"], "auto_map": {"AutoModel": "x.Y"}}, "MyModel"),
}


@pytest.mark.parametrize(("fields", "reason"), CONFIGS.values(), ids=CONFIGS)
def test_a_configuration_that_we_have_no_towers_for_is_refused(fields: dict[str, Any], reason: str) -> None:
    assert read_config(SIGLIP, FILE, Options(), "it").config.embed_dim == 48
    with pytest.raises(CheckpointError, match=f"config.json.*{reason}"):
        read_config({**SIGLIP, **fields}, FILE, Options(), "it")
