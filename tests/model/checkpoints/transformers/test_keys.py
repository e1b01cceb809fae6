"""Tensors that no CLIPModel with that config.json has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.checkpoints import transformers
from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.networks import to_network
from tests.model.checkpoints.transformers.clip_models import (
    clip_tokenizer,
    random_model,
    save,
    small_text,
    small_vision,
)


def _without(state: dict[str, torch.Tensor]) -> None:
    del state["text_model.encoder.layers.1.self_attn.k_proj.bias"]


def _surplus(state: dict[str, torch.Tensor]) -> None:
    state["vision_model.encoder.layers.9.mlp.fc1.bias"] = torch.zeros(192)


def _misshapen(state: dict[str, torch.Tensor]) -> None:
    state["vision_model.encoder.layers.0.self_attn.q_proj.weight"] = torch.zeros(48, 47)


def _flat(state: dict[str, torch.Tensor]) -> None:
    state["text_projection.weight"] = torch.zeros(24 * 32)


def _wide(state: dict[str, torch.Tensor]) -> None:
    state["vision_model.embeddings.position_embedding.weight"] = torch.zeros(17, 48)


def _whole(state: dict[str, torch.Tensor]) -> None:
    name = "text_model.encoder.layers.0.mlp.fc1.weight"
    state[name] = state[name].to(torch.int8)


def _endless(state: dict[str, torch.Tensor]) -> None:
    state["logit_scale"] = torch.tensor(1000.0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_without, "no text_model.encoder.layers.1.self_attn.k_proj.bias, which config.json asks for"),
        (_surplus, "vision_model.encoder.layers.9.mlp.fc1.bias belong"),
        (_misshapen, r"layers.0.self_attn.q_proj.weight has shape \[48, 47\], config.json asks for \[48, 48\]"),
        (_flat, r"text_projection.weight has shape \[768\], config.json asks for \[24, 32\]"),
        (_wide, r"vision_model.embeddings.position_embedding.weight has shape \[17, 48\], .* \[10, 48\]"),
        (_whole, r"text_model\.encoder\.layers\.0\.mlp\.fc1\.weight holds torch\.int8"),
        (_endless, "logit_scale is 1000: a logarithm"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tmp_path: Path, change: Any, reason: str):
    folder = save(random_model(small_text(), small_vision()), tmp_path, clip_tokenizer(1024))
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=reason):
        to_network(transformers.read_folder(folder, Options()))
