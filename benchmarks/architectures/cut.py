"""Configurations cut to two layers a tower, and vocabularies to what the small tokenizers have."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

LAYERS = 2
VOCABULARY = 4096  # of embeddings whose tokenizer is trained here; CLIP's stays whole
_TEXT_MODELS = {
    "roberta": {"num_hidden_layers": LAYERS},
    "xlm-roberta": {"num_hidden_layers": LAYERS},
    "mt5": {"num_layers": LAYERS, "num_decoder_layers": 1},
    "m2m_100": {"encoder_layers": LAYERS, "decoder_layers": 1, "decoder_ffn_dim": 64},
}
# What timm's towers call their layers, by how their names begin.
_TOWERS: dict[str, dict[str, Any]] = {
    "convnext": {"depths": (1, 1, 2, 1)},
    "swin": {"depths": (1, 1, 2, 1)},
    "fastvit": {"layers": (1, 1, 2, 1)},
    "": {"depth": LAYERS},
}
_FIVE_STAGES = ("fastvit_mci3", "fastvit_mci4")


def cut_model_cfg(cfg: dict[str, Any]) -> dict[str, Any]:
    """A `model_cfg` with the same widths and fewer layers."""
    cfg = copy.deepcopy(cfg)
    for section in (cfg["vision_cfg"], cfg["text_cfg"], cfg.get("multimodal_cfg", {})):
        section["layers"] = [1, 2, 1, 1] if isinstance(section.get("layers"), list) else LAYERS
    if cfg["text_cfg"].get("hf_tokenizer_name") and not cfg["text_cfg"].get("hf_model_name"):
        cfg["text_cfg"]["vocab_size"] = VOCABULARY
    return cfg


def cut_text_model(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a text model of transformers, cut in the same way."""
    return {**config, **_TEXT_MODELS[config["model_type"]], "vocab_size": VOCABULARY}


@contextmanager
def cut_towers() -> Iterator[None]:
    """Within it timm builds its towers with few layers, for open_clip and for the import alike.

    And an import measures itself on as few pictures and texts as for a large network: what it gives is compared after.
    """
    import timm

    from model.checkpoints.openclip import siglip
    from model.export import bundle

    create = timm.create_model

    def create_cut(name: str, **settings: Any) -> Any:
        begins = next(begins for begins in _TOWERS if name.startswith(begins))
        fewer = {"layers": (1, 1, 2, 1, 1)} if name in _FIVE_STAGES else _TOWERS[begins]
        return create(name, **{**settings, **fewer})

    ours = {name: (width, LAYERS, *rest) for name, (width, _, *rest) in siglip.SIZES.items()}
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(timm, "create_model", create_cut))
        stack.enter_context(mock.patch.dict(siglip.SIZES, ours))
        stack.enter_context(mock.patch.object(bundle, "LARGE_PARAMETERS", 0))
        yield
