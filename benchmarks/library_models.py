"""Bundles of one model of each family that open_clip has, with random weights, for what is measured of their variants.

Their speeds are those of published ones. Their cosines show the arithmetic only: of random weights no channel is much
larger than the others, as some are in trained ones.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from model.bundle import Bundle

CONTEXT, VOCABULARY = 77, 49_408
# By family, a configuration of open_clip.
FAMILIES = {
    "FastViT": "MobileCLIP-S1",
    "ConvNeXt": "convnext_base",
    "EVA02": "EVA02-B-16",
    "ViTamin": "ViTamin-B",
    "Swin": "swin_base_patch4_window7_224",
    "PE-Core": "PE-Core-B-16",
    "XLM-RoBERTa": "xlm-roberta-base-ViT-B-32",
    "mT5": "mt5-base-ViT-B-32",
    "NLLB": "nllb-clip-base",
}


def library_bundle(family: str, folder: Path) -> Bundle:
    """A bundle of that family, whole but for its vocabulary, which is CLIP's."""
    import torch

    from model.checkpoints.library.open_clip import OpenClipNetwork
    from model.checkpoints.library.padding import measure_length
    from model.config import Preprocessing
    from model.export.bundle import export_bundle
    from model.library_config import LibraryConfig, LibraryImageConfig, LibraryTextConfig
    from model.tokenizers.clip import Tokenizer

    torch.manual_seed(0)
    model, dimensions = _build(FAMILIES[family])
    size = model.visual.image_size
    side = size[0] if isinstance(size, tuple) else size
    preprocessing = Preprocessing(size=side)
    _enliven(model.visual, preprocessing)
    context = min(CONTEXT, model.context_length or CONTEXT)
    text = LibraryTextConfig(
        context_length=context, vocab_size=VOCABULARY, pad_id=0, fixed_length=False, tokenizer="clip"
    )
    config = LibraryConfig(
        name=FAMILIES[family],
        library="open_clip",
        architecture=FAMILIES[family],
        embed_dim=dimensions,
        image=LibraryImageConfig(image_size=side),
        text=text,
    )
    network = OpenClipNetwork(config, model, model.logit_scale, model.logit_bias)
    tokenizer = Tokenizer.clip(VOCABULARY, context)
    measure_length(network, tokenizer)
    return export_bundle(network, folder, tokenizer=tokenizer, preprocessing=preprocessing)


def _build(name: str) -> tuple[Any, int]:
    """The network and its dimensions. The configuration of a text tower is made here, where a hub would be asked."""
    import transformers
    from open_clip.factory import get_model_config
    from open_clip.model import CustomTextCLIP

    fields = deepcopy(get_model_config(name))
    fields.pop("custom_text", None)
    if fields["vision_cfg"].get("timm_model_name"):
        fields["vision_cfg"]["timm_model_pretrained"] = False
    if not fields["text_cfg"].get("hf_model_name"):
        return CustomTextCLIP(**fields).eval(), fields["embed_dim"]
    fields["text_cfg"]["hf_model_pretrained"] = False
    configs = {
        "xlm": lambda: transformers.XLMRobertaConfig(
            vocab_size=VOCABULARY, pad_token_id=0, max_position_embeddings=514, type_vocab_size=1
        ),
        "mt5": lambda: transformers.MT5Config(
            vocab_size=VOCABULARY, d_model=768, d_ff=2048, num_heads=12, num_layers=12
        ),
        "nllb": lambda: transformers.M2M100Config(
            vocab_size=VOCABULARY, pad_token_id=0, d_model=1024, decoder_layers=1, activation_function="relu"
        ),
    }
    config = next(make() for kind, make in configs.items() if name.startswith(kind))
    asked = transformers.AutoConfig.from_pretrained
    transformers.AutoConfig.from_pretrained = staticmethod(lambda *_, **__: config)
    try:
        return CustomTextCLIP(**fields).eval(), fields["embed_dim"]
    finally:
        transformers.AutoConfig.from_pretrained = asked


def _enliven(tower: nn.Module, preprocessing: Any) -> None:
    """Give scales and statistics values as training does: with those of a start, most layers change nothing."""
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    from model import smoke_inputs

    with torch.no_grad():
        for name, parameter in tower.named_parameters():
            if "gamma" in name or "layer_scale" in name:
                parameter.uniform_(0.1, 0.6)
        norms = [module for module in tower.modules() if isinstance(module, _BatchNorm)]
        for norm in norms:
            norm.momentum = None  # the mean of all that is seen
            norm.reset_running_stats()
        if norms:
            pixels = torch.from_numpy(smoke_inputs.pixels(preprocessing, 16)).permute(0, 3, 1, 2) / 255
            mean, std = (torch.tensor(one).view(3, 1, 1) for one in (preprocessing.mean, preprocessing.std))
            tower.train()((pixels - mean) / std)
            tower.eval()
