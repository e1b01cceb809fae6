"""SigLIP as open_clip has it: a vision transformer of timm (`visual.trunk`) beside open_clip's own text tower."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.openclip.fields import BLOCKS, OFF, TEXT, Section, Values
from model.config import Activation, SiglipTextConfig, SiglipViTConfig

_VISION: Values = {
    **BLOCKS,
    "timm_pool": ("map",),
    "timm_proj": ("none",),
    "attentional_pool": OFF,
    # What timm's tower brings itself, or what belongs to training.
    **dict.fromkeys(
        ("timm_model_name", "image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size"), None
    ),
    **dict.fromkeys(("timm_model_pretrained", "timm_proj_bias", "timm_drop", "timm_drop_path", "patch_dropout"), None),
}
_TEXT: Values = {
    **TEXT,
    "no_causal_mask": (True,),
    "pool_type": ("last",),
    "proj_type": ("linear", "none"),
    "proj_bias": (None, False, True),
}
# What open_clip takes where these fields are absent.
_VISION_DEFAULTS = {"timm_pool": "avg", "timm_proj": "linear"}
_TEXT_DEFAULTS = {"no_causal_mask": False, "pool_type": "argmax"}

# Width, layers, heads and perceptron width of timm's towers.
SIZES = {
    "base": (768, 12, 12, None),
    "large": (1024, 24, 16, None),
    "so400m": (1152, 27, 16, 4304),
    "giantopt": (1536, 40, 16, None),
}
_NAME = re.compile(rf"vit_({'|'.join(SIZES)})_patch([0-9]{{1,4}})_siglip_([0-9]{{1,4}})")
# timm computes GELU by its tanh approximation in those that it added with SigLIP 2, exactly in the others.
_TANH = re.compile(r"vit_(so400m_patch16|giantopt_patch16|base_patch32)_siglip_[0-9]+|vit_large_patch16_siglip_512")

_TRUNK = (
    ("patch_embed.proj.", "conv1."),
    ("norm.", "ln_post."),
    ("attn_pool.latent", "pool.query"),
    ("attn_pool.proj.", "pool.attn.out_proj."),
    ("attn_pool.norm.", "pool.ln_2."),
    ("attn_pool.mlp.", "pool.mlp."),
    ("pos_embed", "positional_embedding"),
    ("blocks.", "transformer.resblocks."),
)
_BLOCK = (
    (".norm1.", ".ln_1."),
    (".norm2.", ".ln_2."),
    (".attn.qkv.", ".attn.in_proj_"),
    (".attn.proj.", ".attn.out_proj."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
)


def towers(vision: Section, text: Section, quick_gelu: bool) -> dict[str, Any]:
    """Fields of a ModelConfig. Raises CheckpointError for towers of timm that are not SigLIP's."""
    name = str(vision.get("timm_model_name"))
    match = _NAME.fullmatch(name)
    if match is None:
        raise vision.refused("timm_model_name", name, "of timm's towers (visual.trunk) we have SigLIP's ViTs only")
    vision.check(_VISION, _VISION_DEFAULTS)
    text.check(_TEXT, _TEXT_DEFAULTS)
    width, layers, heads, hidden = SIZES[match[1]]
    image_size = vision.whole("image_size", 224)
    if image_size != int(match[3]):
        raise vision.refused("image_size", image_size, f"{name} takes pictures of {match[3]} pixels")
    if text.get("proj_type", "linear") == "linear" and not text.get("proj_bias"):
        raise text.refused("proj_bias", text.get("proj_bias"), "SigLIP's text_projection has a bias")
    image_activation: Activation = "gelu_tanh" if _TANH.fullmatch(name) else "gelu"
    text_activation = text.activation(quick_gelu)
    return {
        "activation": image_activation,
        "text_activation": text_activation if text_activation != image_activation else None,
        "image": SiglipViTConfig(
            image_size=image_size, patch_size=int(match[2]), width=width, layers=layers, heads=heads, mlp_width=hidden
        ),
        "text": SiglipTextConfig(**text.text_tower()),
    }


def our_names(state: Mapping[str, Tensor], cfg: Mapping[str, Any]) -> dict[str, Tensor]:
    """open_clip's tensors, `text.` cut off already, under the names of our network; those it does not know stay.

    `cfg` is the `text_cfg`. Raises CheckpointError where the pool lacks a part.
    """
    named = {_our_name(name): tensor for name, tensor in state.items()}
    for name in ("visual.positional_embedding", "visual.pool.query"):
        if name in named and named[name].dim() == 3 and named[name].shape[0] == 1:
            named[name] = named[name][0]
    for part in ("weight", "bias"):
        query, rest = (f"visual.trunk.attn_pool.{layer}.{part}" for layer in ("q", "kv"))
        try:
            named[f"visual.pool.attn.in_proj_{part}"] = torch.cat([named.pop(query), named.pop(rest)])
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(f"{query} and {rest} are missing, or do not fit together") from error
    if cfg.get("proj_type") == "none" and "ln_final.weight" in named:
        # The text tower's output is the embedding.
        width = named["ln_final.weight"].shape[0]
        named["text_projection.weight"] = torch.eye(width)
        named["text_projection.bias"] = torch.zeros(width)
    return named


def _our_name(name: str) -> str:
    rest = name.removeprefix("visual.trunk.")
    if rest == name:
        return name
    for theirs, ours in _TRUNK:
        if rest.startswith(theirs):
            renamed = ours + rest.removeprefix(theirs)
            for inner, our_inner in _BLOCK:
                renamed = renamed.replace(inner, our_inner)
            return f"visual.{renamed}"
    return name
