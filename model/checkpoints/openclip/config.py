"""The `model_cfg` of an open_clip configuration: read into ours, and written from it.

A field whose value our towers compute is read, one that changes nothing in a trained model is passed over, and every
other value is refused by its name, unknown fields too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.openclip import siglip
from model.checkpoints.openclip.fields import BLOCKS, OFF, TEXT, Section, Values
from model.config import Activation, ModelConfig, ResNetConfig, TextConfig, ViTConfig

CONFIG = "open_clip_config.json"

_TOP: Values = {
    **dict.fromkeys(("embed_dim", "vision_cfg", "text_cfg"), None),
    "quick_gelu": (None, False, True),
    # Where the text tower's tensors stand, where training begins, and how outputs are packed.
    **dict.fromkeys(("custom_text", "init_logit_scale", "nonscalar_logit_scale", "output_dict"), None),
}
_VISION: Values = {
    **BLOCKS,
    **dict.fromkeys(("layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size"), None),
    **dict.fromkeys(("act_kwargs", "norm_kwargs"), None),
    "attentional_pool": OFF,
    "no_ln_pre": OFF,
    "pool_type": ("tok",),
    "timm_model_name": (None, ""),
    # Training; parts of a pool and of a tower that have to be absent; positions that are in the weights either way;
    # and a norm before or after the choice of the class token, which is the same.
    **dict.fromkeys(("patch_dropout", "attn_pooler_queries", "attn_pooler_heads"), None),
    **dict.fromkeys(("timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop"), None),
    **dict.fromkeys(("timm_drop_path", "pos_embed_type", "final_ln_after_pool"), None),
}
_TEXT: Values = {
    **TEXT,
    "no_causal_mask": OFF,
    "pool_type": ("argmax", "eos"),
    "proj_type": ("linear",),
    "proj_bias": OFF,
}

_ACT_KWARGS: dict[Activation, dict[str, Any]] = {
    "quick_gelu": {},
    "gelu": {},
    "gelu_tanh": {"act_kwargs": {"approximate": "tanh"}},
}


class ParsedConfig(NamedTuple):
    """A configuration, and the source that decided its activation."""

    config: ModelConfig
    activation_from: str
    warnings: list[str]


def read_model_cfg(cfg: Any, options: Options, name: str) -> ParsedConfig:
    """`name` becomes the model's. Raises CheckpointError naming the field that we do not compute, and its value."""
    vision, text = _section(cfg, "vision_cfg"), _section(cfg, "text_cfg")
    timm = bool(vision.get("timm_model_name"))
    top = Section("", cfg)
    # With a logit bias, or without one, the towers of SigLIP are the ones that we have for the sigmoid loss.
    top.check({**_TOP, "init_logit_bias": None if timm else (None,)})
    quick_gelu = bool(top.get("quick_gelu"))
    try:
        towers = siglip.towers(vision, text, quick_gelu) if timm else _towers(vision, text, quick_gelu)
        config = ModelConfig(name=name, embed_dim=top.whole("embed_dim"), **towers)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "model_cfg"
        raise CheckpointError(f"{where} {first['input']!r:.200} is not possible: {first['msg']}") from error
    source = f"quick_gelu {quick_gelu}" if "quick_gelu" in cfg else "no quick_gelu, which stands for GELU"
    source += "".join(
        f", {field}" for field in ("timm_model_name", "act_kwargs") if vision.get(field) or text.get(field)
    )
    return _with_activation(config, f"the configuration ({source})", options.activation)


def to_model_cfg(config: ModelConfig, tokenizer: str | None = None) -> dict[str, Any]:
    """The `model_cfg` whose towers have the names, shapes and outputs of ours.

    `tokenizer` names one that is not CLIP's: from a folder, open_clip reads the folder's under any name.
    Raises CheckpointError where there is none.
    """
    image, text = config.image, config.text
    if not isinstance(image, ViTConfig | ResNetConfig) or not isinstance(text, TextConfig):
        raise CheckpointError(
            "visual.pool: open_clip takes SigLIP's image tower from timm, under other names: "
            "use --format huggingface, which transformers loads"
        )
    if isinstance(image, ResNetConfig) and image.block != "bottleneck":
        raise CheckpointError(
            "visual.layer1.0 is a basic block of two convolutions, of which open_clip has no counterpart: "
            "only bottlenecks can be written"
        )
    if isinstance(image, ResNetConfig) and image.stem != "deep":
        raise CheckpointError(
            "visual.conv2 is the end of a strided stem, of which open_clip has no counterpart: only deep stems can be "
            "written"
        )
    text_activation = config.text_activation or config.activation
    # The convolutional tower has an activation of its own, which is always the same.
    image_activation = text_activation if isinstance(image, ResNetConfig) else config.activation
    if (image_activation == "quick_gelu") != (text_activation == "quick_gelu"):
        raise CheckpointError(
            f"open_clip has no {image_activation} in the image tower beside {text_activation} in the text tower"
        )
    return {
        "embed_dim": config.embed_dim,
        "quick_gelu": text_activation == "quick_gelu",
        "vision_cfg": _vision_cfg(image) | _ACT_KWARGS[image_activation],
        "text_cfg": _text_cfg(tokenizer, text) | _ACT_KWARGS[text_activation],
    }


def _with_activation(config: ModelConfig, source: str, chosen: Activation | None) -> ParsedConfig:
    if chosen is None:
        return ParsedConfig(config, source, [])
    warnings = []
    if {chosen} != {config.activation, config.text_activation or config.activation}:
        warnings.append(f"activation {chosen} as you chose it, where {source} says {config.activation}")
    return ParsedConfig(
        config.model_copy(update={"activation": chosen, "text_activation": None}), "--activation", warnings
    )


def _section(cfg: Any, field: str) -> Section:
    section = cfg.get(field) if isinstance(cfg, Mapping) else None
    if not isinstance(section, Mapping):
        raise CheckpointError(f"model_cfg has no {field}: this is not a configuration of open_clip")
    return Section(f"{field}.", section)


def _towers(vision: Section, text: Section, quick_gelu: bool) -> dict[str, Any]:
    """Fields of a ModelConfig, for the towers that are open_clip's own."""
    vision.check(_VISION)
    text.check(_TEXT)
    tower = _text_config(text)
    text_activation = text.activation(quick_gelu)
    image = _resnet(vision) if isinstance(vision.get("layers"), list) else _vit(vision)
    # The convolutional tower has an activation of its own, which is always the same.
    resnet = isinstance(image, ResNetConfig)
    image_activation = text_activation if resnet else vision.activation(quick_gelu)
    return {
        "activation": image_activation,
        "text_activation": text_activation if text_activation != image_activation else None,
        "image": image,
        "text": tower,
    }


def _vit(vision: Section) -> ViTConfig:
    width = vision.whole("width", 768)
    return ViTConfig(
        image_size=vision.whole("image_size", 224),
        patch_size=vision.whole("patch_size", 16),
        width=width,
        layers=vision.whole("layers", 12),
        heads=_heads(vision, width),
        mlp_width=vision.mlp_width(width),
        norm_eps=vision.norm_eps(),
    )


def _resnet(vision: Section) -> ResNetConfig:
    width = vision.whole("width", 768)
    return ResNetConfig(
        image_size=vision.whole("image_size", 224),
        width=width,
        layers=vision.get("layers"),
        heads=_heads(vision, 32 * width),
    )


def _heads(vision: Section, features: int) -> int:
    head_width = vision.whole("head_width", 64)
    if features < head_width:
        raise vision.refused("head_width", head_width, f"the tower has {features} features")
    return features // head_width


def _text_config(text: Section) -> TextConfig:
    config = TextConfig(**text.text_tower())
    end = config.vocab_size - 1
    if text.get("pool_type") == "eos" and text.get("eos_id", 2) != end:
        raise text.refused("eos_id", text.get("eos_id", 2), f"texts are pooled at the largest id, {end}")
    return config


def _vision_cfg(image: ViTConfig | ResNetConfig) -> dict[str, Any]:
    if isinstance(image, ResNetConfig):
        head_width = image.features // image.heads
        sizes = {"layers": list(image.layers), "width": image.width, "head_width": head_width, "patch_size": None}
        return {"image_size": image.image_size, **sizes}
    return {
        "image_size": image.image_size,
        "layers": image.layers,
        "width": image.width,
        "head_width": image.width // image.heads,
        "patch_size": image.patch_size,
        **_block_cfg(image),
    }


def _text_cfg(tokenizer: str | None, text: TextConfig) -> dict[str, Any]:
    return {
        "context_length": text.context_length,
        "vocab_size": text.vocab_size,
        **({"hf_tokenizer_name": tokenizer, "tokenizer_kwargs": {"clean": "lower"}} if tokenizer else {}),
        "width": text.width,
        "heads": text.heads,
        "layers": text.layers,
        **_block_cfg(text),
    }


def _block_cfg(tower: ViTConfig | TextConfig) -> dict[str, Any]:
    cfg: dict[str, Any] = {}
    if tower.mlp_width is not None:
        ratio = tower.mlp_width / tower.width
        # They take the whole part of the product, which rounding may have left just below.
        cfg["mlp_ratio"] = ratio if int(tower.width * ratio) == tower.mlp_width else ratio + 0.5 / tower.width
    if tower.norm_eps != TextConfig.model_fields["norm_eps"].default:
        cfg["norm_kwargs"] = {"eps": tower.norm_eps}
    return cfg
