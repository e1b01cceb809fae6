"""Position embeddings for pictures of another size than in training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from model.checkpoints.checkpoint import Checkpoint, CheckpointError, Options
from model.checkpoints.importer import resized
from model.checkpoints.networks import to_network
from model.checkpoints.openai import read_state
from model.config import ModelConfig
from tests.model.checkpoints.archives import checkpoint_of
from tests.model.checkpoints.openclip.models import Ours, expect_same, vary
from tests.model.checkpoints.openclip.models import build as build_theirs
from tests.model.conftest import TINY_RESNET, TINY_VIT, random_network


@pytest.mark.parametrize("size", [32, 80, 112])
def test_pictures_of_another_size_get_what_open_clip_gives_them(open_clip: Any, size: int) -> None:
    cfg = vary({"head_width": 64}, {"heads": 1}, quick_gelu=True)
    state = build_theirs(open_clip, cfg).state_dict()
    checkpoint = resized(read_state(dict(state), Options(), "x"), size)
    assert checkpoint.config.image.image_size == checkpoint.preprocessing.size == size
    assert checkpoint.source["resized_from"] == 48

    larger = build_theirs(open_clip, vary({"head_width": 64, "image_size": size}, {"heads": 1}, quick_gelu=True))
    open_clip.model.resize_pos_embed(state, larger)
    larger.load_state_dict(state)
    expect_same(Ours.read(checkpoint), larger, open_clip.SimpleTokenizer(context_length=77))


def test_positions_of_a_resnet_are_resized_as_its_own_network_does() -> None:
    """open_clip resizes those of vision transformers only."""
    checkpoint = resized(checkpoint_of(TINY_RESNET), 96)
    assert checkpoint.config.image.image_size == checkpoint.preprocessing.size == 96
    pixels = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = random_network(TINY_RESNET).encode_image(pixels)
        torch.testing.assert_close(to_network(checkpoint).encode_image(pixels), expected, rtol=0, atol=1e-5)


def test_positions_without_a_class_token_are_resized() -> None:
    config = ModelConfig.model_validate(
        {
            "name": "siglip",
            "embed_dim": 64,
            "activation": "gelu_tanh",
            "image": {"kind": "siglip", "image_size": 48, "patch_size": 16, "width": 64, "layers": 1, "heads": 1},
            "text": {"kind": "siglip", "width": 64, "layers": 1, "heads": 1},
        }
    )
    name = "visual.positional_embedding"
    positions = torch.randn(9, 64)
    small = Checkpoint(config, {name: positions}, checkpoint_of(TINY_VIT).preprocessing, None, {})  # type: ignore[arg-type]
    large = resized(small, 80)
    plane = positions.reshape(1, 3, 3, 64).permute(0, 3, 1, 2)
    expected = F.interpolate(plane, size=(5, 5), mode="bicubic", antialias=True).permute(0, 2, 3, 1).reshape(25, 64)
    torch.testing.assert_close(large.state[name], expected)


def test_the_size_that_a_model_has_changes_nothing() -> None:
    checkpoint = checkpoint_of(TINY_VIT)
    assert resized(checkpoint, 48) is checkpoint


@pytest.mark.parametrize(
    ("config", "size", "reason"),
    [
        (TINY_VIT, 50, "image size 50 is not a multiple of 16: choose 48"),
        (TINY_VIT, 8, "choose 16"),
        (TINY_VIT, 0, "choose 16"),
        (TINY_VIT, -16, "choose 16"),
        (TINY_VIT, 8192, "less than or equal to 4096"),
        (TINY_RESNET, 80, "image size 80 is not a multiple of 32"),
    ],
)
def test_a_size_that_does_not_fit_is_refused(config: ModelConfig, size: int, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        resized(checkpoint_of(config), size)


def test_positions_that_are_no_square_are_not_resized() -> None:
    checkpoint = checkpoint_of(TINY_VIT)
    checkpoint.state["visual.positional_embedding"] = torch.ones(11, 64)
    with pytest.raises(CheckpointError, match=r"visual\.positional_embedding should have 10 positions for 48 pixels"):
        resized(checkpoint, 80)
