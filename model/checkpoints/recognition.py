"""What a file holds that is not read, for people: its tensors, whose they are, and what to import it with."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from itertools import islice
from typing import Any

from torch import Tensor

from model.checkpoints.wrappers import ANCHORS, SEGMENTS, dictionaries

_MANY = 20_000  # names are looked at: four times those of the largest model
_VOCABULARY = r"text\.transformer\.embeddings\.word_embeddings\.weight"
# By the shape of that tensor: vocabulary, width.
_ROBERTAS: dict[tuple[int, ...], tuple[str, ...]] = {
    (250002, 768): ("xlm-roberta-base-ViT-B-32",),
    (250002, 1024): ("xlm-roberta-large-ViT-H-14",),
    (50265, 768): ("roberta-ViT-B-32", "coca_roberta-ViT-B-32"),
}
_PULL = "; they are published under open_clip's names, too: python -m model pull "
# Names of tensors, under any prefix; whose they are; architectures of open_clip that may be meant. The first counts.
_FAMILIES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        r"image_encoder\.model\.patch_emb",
        "Apple's MobileCLIP, as Apple names them",
        ("MobileCLIP-S1", "MobileCLIP-S2", "MobileCLIP-B"),
    ),
    (
        r"visual\.(?:attn_pool\.probe|rope\.freqs)",
        f"Meta's Perception Encoder, as Meta names them{_PULL}timm/PE-Core-B-16",
        ("PE-Core-T-16-384", "PE-Core-S-16-384", "PE-Core-B-16", "PE-Core-L-14-336", "PE-Core-bigG-14-448"),
    ),
    (
        r"visual\.(?:blocks\.\d+\.attn\.(?:q_bias|q_proj|inner_attn_ln)|patch_embed\.proj)",
        f"EVA-CLIP, as its own repository names them{_PULL}timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k",
        ("EVA01-g-14", "EVA02-B-16", "EVA02-L-14", "EVA02-L-14-336", "EVA02-E-14"),
    ),
    (r"text_decoder\.", "a CoCa, with its decoder", ("coca_ViT-B-32", "coca_ViT-L-14", "coca_base")),
    (_VOCABULARY, "a text tower of transformers (XLM-RoBERTa or RoBERTa)", ()),
    (
        r"text\.transformer\.(?:encoder\.block|shared|block)\.",
        "a text tower of transformers (mT5)",
        ("mt5-base-ViT-B-32", "mt5-xl-ViT-H-14"),
    ),
    (
        r"text\.transformer\.(?:embed_tokens|layers|layer_norm)\.",
        "a text tower of transformers (NLLB)",
        ("nllb-clip-base", "nllb-clip-large", "nllb-clip-base-siglip", "nllb-clip-large-siglip"),
    ),
    (
        r"visual\.trunk\.stages\.\d+\.blocks\.\d+\.conv_dw",
        "a ConvNeXt of timm",
        ("convnext_base_w", "convnext_base", "convnext_large_d", "convnext_xxlarge"),
    ),
    (
        r"visual\.trunk\.stem\.\d+\.conv_(?:kxk|scale)",
        "a FastViT of timm, as MobileCLIP has it",
        ("MobileCLIP-S1", "MobileCLIP-S2", "MobileCLIP2-S0", "MobileCLIP2-S2", "MobileCLIP2-S3", "MobileCLIP2-S4"),
    ),
    (
        r"visual\.trunk\.patch_embed\.backbone\.stages",
        "a ViTamin of timm",
        ("ViTamin-S", "ViTamin-B", "ViTamin-L", "ViTamin-L2", "ViTamin-XL-256"),
    ),
    (
        r"visual\.trunk\.patch_embed\.backbone",
        "a ViT of timm with convolutions before it, as MobileCLIP-B has it",
        ("MobileCLIP-B", "MobileCLIP2-B"),
    ),
    (
        r"visual\.trunk\.blocks\.\d+\.(?:attn\.(?:q_bias|q_proj)|mlp\.fc1_x)",
        "an EVA of timm",
        ("EVA01-g-14", "EVA02-B-16", "EVA02-L-14", "EVA02-L-14-336", "EVA02-E-14"),
    ),
    (r"visual\.trunk\.layers\.\d+\.blocks", "a Swin of timm", ("swin_base_patch4_window7_224",)),
    (
        r"visual\.trunk\.attn_pool\.latent",
        "a ViT of timm that pools by attention, as SigLIP and PE-Core do",
        ("ViT-B-16-SigLIP", "ViT-B-16-SigLIP2", "PE-Core-B-16"),
    ),
    (r"visual\.trunk\.", "a tower of timm", ()),
)


def describe(content: Mapping[Any, Any]) -> str:
    """What was seen in a file in which no model was found, what was looked for, and what it may be."""
    path, tensors = _fullest(content)
    parts = [_seen(content, path, tensors), f"Looked for, under any prefix: {_missing(tensors)}", likely(tensors)]
    return ". ".join(part for part in parts if part) + "."


def seen_and_likely(content: Mapping[Any, Any]) -> str:
    """What was seen in a file that has nothing of the network that was built for it, and what it may be."""
    path, tensors = _fullest(content)
    return ". ".join(part for part in (_seen(content, path, tensors), likely(tensors)) if part) + "."


def likely(tensors: Mapping[str, Tensor]) -> str:
    """Whose these tensors are, and the architectures of open_clip that they may be of; empty where nothing is known."""
    cleaned = {SEGMENTS.sub("", name): tensor for name, tensor in islice(tensors.items(), _MANY)}
    family, architectures = "", tuple[str, ...]()
    for pattern, whose, names in _FAMILIES:
        regex = re.compile(rf"(?:^|\.){pattern}")
        if found := next((name for name in cleaned if regex.search(name)), None):
            family, architectures = f"{found:.100} is of {whose}", names
            if pattern == _VOCABULARY:
                architectures = _ROBERTAS.get(tuple(cleaned[found].shape), next(iter(_ROBERTAS.values())))
            break
    floats = [tensor for tensor in tensors.values() if tensor.is_floating_point()]
    same = _sizes().get((len(floats), sum(tensor.numel() for tensor in floats)), [])
    if same:
        exact = f"open_clip's {' and '.join(same)} {'has' if len(same) == 1 else 'have'} as many tensors and parameters"
        parts = [family, f"{exact}: say --architecture {same[0]}"]
    else:
        parts = [
            family,
            f"say --architecture, {', '.join(architectures)} or another, if it is one" if architectures else "",
        ]
    return ": ".join(part for part in parts if part)


@cache
def _sizes() -> dict[tuple[int, int], list[str]]:
    """Architectures of open_clip by their number of tensors, and of numbers in them."""
    text = resources.files("model").joinpath("checkpoints", "open_clip_sizes.json").read_text("utf-8")
    sizes: dict[tuple[int, int], list[str]] = {}
    for name, (tensors, numbers) in json.loads(text).items():
        sizes.setdefault((tensors, numbers), []).append(name)
    return sizes


def _fullest(content: Mapping[Any, Any]) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """The dictionary with the most tensors, its path, and those tensors."""
    path, names = max(dictionaries(content), key=lambda entry: sum(isinstance(v, Tensor) for v in entry[1].values()))
    return path, {str(key): value for key, value in names.items() if isinstance(value, Tensor)}


def _seen(content: Mapping[Any, Any], path: tuple[str, ...], tensors: Iterable[str]) -> str:
    begins = Counter(name.partition(".")[0] for name in tensors).most_common(5)
    where = "".join(f"[{key!r:.100}]" for key in path) or "the file"
    seen = f"Seen: {sum(1 for _ in tensors)} tensors in {where}" + (
        f", whose names begin with {', '.join(f'{name[:40]} ({count})' for name, count in begins)}" if begins else ""
    )
    others = [str(key)[:40] for key in content if key not in path][:8] if path else []
    return f"{seen}; beside it: {', '.join(others)}" if others else seen


def _missing(names: Iterable[str]) -> str:
    cleaned = [SEGMENTS.sub("", name) for name in names]
    lines = []
    for layout, anchors in ANCHORS.items():
        is_found = [any(re.fullmatch(rf"(?:.*\.)?{anchor}", name) for name in cleaned) for anchor in anchors]
        lacking = [tower for tower, found in zip(("text", "picture"), is_found, strict=True) if not found]
        examples = (
            "token_embedding.weight and visual.conv1.weight" if layout == "OpenAI's" else "text_model and vision_model"
        )
        lines.append(f"{layout} layout ({examples}; no {' and no '.join(lacking)} tower)")
    return ", ".join(lines)
