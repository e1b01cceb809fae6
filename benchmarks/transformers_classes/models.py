"""The dual encoders of transformers, small and in full size: configuration, tokenizer and processor of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.transformers_classes import tokenizers
from benchmarks.transformers_classes.tokenizers import VOCABULARY

_LAYERS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_TEXT = {**_LAYERS, "max_position_embeddings": 40, "vocab_size": VOCABULARY}
_CLIP_ENDS = {"vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
_XLM_ENDS = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
_VISION = {**_LAYERS, "image_size": 32, "patch_size": 8}
_GROUPS = {
    **_VISION, "depths": [1, 1, 1], "num_hidden_layers": 3, "num_group_tokens": [8, 4, 0],
    "num_output_groups": [8, 4, 0], "assign_mlp_ratio": [0.5, 4],
}  # fmt: skip
_EFFICIENT_NET = {"image_size": 64, "width_coefficient": 0.2, "depth_coefficient": 0.2, "hidden_dim": 64}


@dataclass(frozen=True)
class Spec:
    """How a class is built."""

    config: str  # its class
    text: dict[str, Any]
    vision: dict[str, Any]
    tokenizer: Callable[[Path], Any]
    processor: str
    image_processor: str | None  # None where transformers has none without torchvision
    pixels: int  # of the small one
    full_pixels: int | None = None  # of the published one, whose sizes the configuration class has as its defaults
    more: dict[str, Any] = field(default_factory=lambda: {"projection_dim": 24})
    full_text: dict[str, Any] = field(default_factory=lambda: {"vocab_size": VOCABULARY})


def _clip(name: str, *, pixels: int = 32, full_pixels: int | None = None, **fields: Any) -> Spec:
    settings = {
        "text": {**_TEXT, **_CLIP_ENDS},
        "vision": _VISION,
        "tokenizer": tokenizers.clip,
        "processor": "CLIPProcessor",
        "image_processor": "CLIPImageProcessorPil",
        "full_text": _CLIP_ENDS,
        **fields,
    }
    return Spec(f"{name}Config", pixels=pixels, full_pixels=full_pixels, **settings)


def _bert(name: str, processor: str, image_processor: str | None, full_pixels: int, **fields: Any) -> Spec:
    settings = {"text": _TEXT, "vision": _VISION, "tokenizer": tokenizers.bert, "pixels": 32, **fields}
    return Spec(
        f"{name}Config", processor=processor, image_processor=image_processor, full_pixels=full_pixels, **settings
    )


_BLIP = {"text": {**_TEXT, "encoder_hidden_size": 32}, "more": {"projection_dim": 24, "image_text_hidden_size": 24}}
_OWLVIT = _clip(
    "OwlViT",
    text={**_TEXT, **_CLIP_ENDS, "max_position_embeddings": 16, "pad_token_id": 0},
    tokenizer=tokenizers.owlvit,
    processor="OwlViTProcessor",
    image_processor="OwlViTImageProcessorPil",
    full_pixels=768,
    full_text={**_CLIP_ENDS, "pad_token_id": 0},
)
SPECS: dict[str, Spec] = {
    "Aimv2Model": _clip("Aimv2", full_pixels=224),
    "AlignModel": _bert(
        "Align", "AlignProcessor", "EfficientNetImageProcessorPil", 289, pixels=64, vision=_EFFICIENT_NET,
        more={"projection_dim": 64},
    ),
    "AltCLIPModel": _clip(
        "AltCLIP", text={**_TEXT, **_XLM_ENDS, "project_dim": 20}, tokenizer=tokenizers.xlm_roberta,
        processor="AltCLIPProcessor", full_pixels=224, full_text={"vocab_size": VOCABULARY},
    ),
    "BlipModel": _bert("Blip", "BlipProcessor", "BlipImageProcessorPil", 384, **_BLIP),
    "BlipForImageTextRetrieval": _bert("Blip", "BlipProcessor", "BlipImageProcessorPil", 384, **_BLIP),
    "CLIPModel": _clip("CLIP", full_pixels=224),
    "CLIPSegModel": _clip(
        "CLIPSeg", processor="CLIPSegProcessor", image_processor="ViTImageProcessorPil", pixels=48, full_pixels=352
    ),
    "CLIPSegForImageSegmentation": _clip(
        "CLIPSeg", processor="CLIPSegProcessor", image_processor="ViTImageProcessorPil", pixels=48,
        more={"projection_dim": 24, "extract_layers": [0, 1], "reduce_dim": 16, "decoder_num_attention_heads": 2},
    ),
    "ChineseCLIPModel": _bert("ChineseCLIP", "ChineseCLIPProcessor", "ChineseCLIPImageProcessorPil", 224),
    "FlavaModel": _bert("Flava", "FlavaProcessor", "FlavaImageProcessorPil", 224),
    "FlavaForPreTraining": _bert("Flava", "FlavaProcessor", "FlavaImageProcessorPil", 224),
    "GroupViTModel": _clip(
        "GroupViT", vision=_GROUPS, more={"projection_dim": 24, "projection_intermediate_dim": 48}, full_pixels=224
    ),
    "MetaClip2Model": _clip(
        "MetaClip2", text={**_TEXT, **_XLM_ENDS}, tokenizer=tokenizers.xlm_roberta, full_pixels=224,
        full_text={"vocab_size": VOCABULARY, **_XLM_ENDS},
    ),
    "OwlViTModel": _OWLVIT,
    "OwlViTForObjectDetection": _OWLVIT,
    "SiglipModel": _clip(
        "Siglip", text={**_TEXT, "max_position_embeddings": 64}, tokenizer=tokenizers.siglip, more={},
        processor="SiglipProcessor", image_processor="SiglipImageProcessorPil", full_pixels=224,
        full_text={"vocab_size": VOCABULARY},
    ),
    "Tipsv2Model": _clip(
        "Tipsv2", text=_TEXT, vision={**_VISION, "num_register_tokens": 1}, tokenizer=tokenizers.tips, more={},
        processor="", image_processor=None, full_pixels=448, full_text={"vocab_size": VOCABULARY},
    ),
    "VisionTextDualEncoderModel": _bert(
        "VisionTextDualEncoder", "VisionTextDualEncoderProcessor", "ViTImageProcessorPil", 224,
    ),
}  # fmt: skip


def configuration(transformers: Any, name: str, full: bool) -> Any:
    """The configuration of a class, small, or with the sizes that its configuration class has by default."""
    spec = SPECS[name]
    kind = getattr(transformers, spec.config)
    text, vision, more = (spec.full_text, {}, {}) if full else (spec.text, spec.vision, spec.more)
    if name == "VisionTextDualEncoderModel":
        towers = transformers.ViTConfig(**vision), transformers.BertConfig(**text)
        return kind.from_vision_text_configs(*towers, **more)
    if name.startswith("Flava"):
        inner = {} if full else {"multimodal_config": _LAYERS}
        return kind(text_config=text, image_config=vision, **inner, **more)
    return kind(text_config=text, vision_config=vision, **more)


def processors(transformers: Any, name: str, full: bool, folder: Path) -> tuple[Any, Any]:
    """The processor of pictures, or None, and that of both; `folder` is where the model is saved."""
    spec = SPECS[name]
    side = spec.full_pixels if full else spec.pixels
    tokenizer = spec.tokenizer(folder)
    if spec.image_processor is None:
        return None, tokenizer
    kind = getattr(transformers, spec.image_processor)
    square = {"height": side, "width": side}
    settings: dict[str, Any] = {"size": square}
    if spec.image_processor.startswith(("CLIP", "ChineseCLIP")):
        settings = {"size": {"shortest_edge": side}, "crop_size": square}
    elif spec.image_processor.startswith(("Flava", "EfficientNet")):
        settings |= {"crop_size": square, "do_center_crop": True}
    images = kind(**settings)
    return images, getattr(transformers, spec.processor)(image_processor=images, tokenizer=tokenizer)
