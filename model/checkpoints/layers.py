"""Layers of other architectures, told by the names of their tensors, so that they are refused in words."""

from __future__ import annotations

import re
from collections.abc import Iterable

from model.checkpoints.checkpoint import CheckpointError

# The first that matches names the layer; groups come before their parts.
_FOREIGN = {
    r"visual\.trunk\.": "an image tower of timm",
    r"(text_)?decoder\.": "the text decoder of CoCa",
    r"visual\.attn_pool(_contrastive)?\.": "the attentional pooling of CoCa",
    r"(text\.)?cls_emb\b": "a class token in the text tower",
    r"(visual\.)?head\.": "a head of another tower",
    r".*\.ls_[12]\.": "LayerScale",
    r".*\.(q_norm|k_norm|ln_q|ln_k)\.": "normalised queries and keys",
    r".*\.(ln_attn|attn\.ln_inner|attn\.norm)\.": "a second norm in attention",
    r".*\.(w[123]|gate_proj)\.": "gated perceptrons",
    r"(image_encoder|text_encoder)\.": "a tower of MobileCLIP",
    r"(text\.)?transformer\.(embeddings|encoder|layer|shared|block)\.": "a text tower of transformers",
    r"(vision_model|text_model)\.": "a tower of transformers, which is imported with the folder that has config.json",
}


def refuse_foreign(names: Iterable[str]) -> None:
    """Raise CheckpointError for the first name that belongs to a layer known not to be ours."""
    for name in names:
        for pattern, layer in _FOREIGN.items():
            if re.match(pattern, name):
                raise CheckpointError(f"{name} belongs to {layer}: not supported")


def refuse_surplus(names: Iterable[str], wanted: Iterable[str], model: str) -> None:
    """Raise CheckpointError where there are names beyond those wanted."""
    known = set(wanted)
    surplus = sorted(name for name in names if name not in known)
    refuse_foreign(surplus)
    if surplus:
        others = f" and {len(surplus) - 1} further tensors belong" if len(surplus) > 1 else " belongs"
        raise CheckpointError(f"{surplus[0]}{others} to no layer of {model}: not supported")
