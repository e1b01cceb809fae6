"""config.json of transformers' CLIPModel and SiglipModel -> our configuration, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.transformers.families import Family, family_of
from model.checkpoints.transformers.schema import Clip, ClipText, Siglip, Tower
from model.config import Activation, ModelConfig, SiglipTextConfig, SiglipViTConfig, TextConfig, ViTConfig

CONFIG = "config.json"

_ACTIVATIONS: dict[str, Activation] = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
_HIDDEN_ACT: dict[Activation, str] = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}
# Where our own checks say which field is wrong, the user knows it by this name.
_THEIR_NAMES = {
    "context_length": "max_position_embeddings",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "layers": "num_hidden_layers",
    "mlp_width": "intermediate_size",
    "norm_eps": "layer_norm_eps",
    "embed_dim": "projection_dim",
    "text": "text_config",
    "image": "vision_config",
}
# Behind a tower's name in an error of pydantic stands the kind that it was read as.
_KINDS = ("vit", "clip", "siglip", "int", "list[int]")


@dataclass(frozen=True)
class ParsedConfig:
    """What a config.json holds: all but the control tokens of SigLIP's text tower, which its tokenizer has."""

    config: ModelConfig
    activation_from: str
    warnings: list[str]


def read_config(content: Mapping[str, Any], file: Path, options: Options, name: str) -> ParsedConfig:
    """The configuration in `content`, which was read from `file`; `name` becomes the model's.

    Raises CheckpointError for another model than CLIPModel or SiglipModel, and for a field that our towers have no
    place for.
    """
    family = family_of(content, file)
    try:
        parsed = _parse(content, family)
        parsed.expect_ours(file)
        activations, activation_from, warnings = _activations(parsed, file, options)
        config = ModelConfig.model_validate({**_fields(parsed, family, file), **activations, "name": name})
    except ValidationError as error:
        raise CheckpointError(f"{file}: {_first(error)}") from error
    return ParsedConfig(config, activation_from, warnings)


def to_config(config: ModelConfig) -> dict[str, Any]:
    """The content of config.json for a configuration whose image tower is a vision transformer."""
    image, text = config.image, config.text
    assert image.kind != "resnet"
    assert isinstance(text, TextConfig | SiglipTextConfig)
    if isinstance(text, SiglipTextConfig):
        architecture, projected = "SiglipModel", {}
        ends = {"projection_size": config.embed_dim, "eos_token_id": text.eos_id, "pad_token_id": text.pad_id}
    else:
        architecture, projected = "CLIPModel", {"projection_dim": config.embed_dim}
        end = text.vocab_size - 1
        ends = {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    return {
        "architectures": [architecture],
        "model_type": text.kind,
        "dtype": "float32",
        **projected,
        "text_config": {
            "model_type": f"{text.kind}_text_model",
            "vocab_size": text.vocab_size,
            "max_position_embeddings": text.context_length,
            "hidden_act": _HIDDEN_ACT[config.text_activation or config.activation],
            **_their_tower(text),
            **projected,
            **ends,
        },
        "vision_config": {
            "model_type": f"{text.kind}_vision_model",
            "num_channels": 3,
            "image_size": image.image_size,
            "patch_size": image.patch_size,
            "hidden_act": _HIDDEN_ACT[config.activation],
            **_their_tower(image),
            **projected,
        },
    }


def _parse(content: Mapping[str, Any], family: Family) -> Clip | Siglip:
    if family == "siglip":
        return Siglip.model_validate(_given(content))
    towers = {key: _newest(content, key) for key in ("text_config", "vision_config")}
    return Clip.model_validate(_given({**content, **towers}))


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _newest(content: Mapping[str, Any], key: str) -> Any:
    """The fields of a tower. In files from before 2023 `text_config_dict` stands above `text_config`, defaults too."""
    newer, older = content.get(key), content.get(f"{key}_dict")
    if older is None:
        return newer
    default = ClipText().hidden_act
    repeated = isinstance(newer, dict) and newer.get("hidden_act") == default
    return {"hidden_act": default, **older} if repeated and isinstance(older, dict) else older


def _activations(parsed: Clip | Siglip, file: Path, options: Options) -> tuple[dict[str, Any], str, list[str]]:
    """`activation` and `text_activation` of a ModelConfig, the source that decided them, and warnings."""
    text = _known_activation(parsed.text_config, "text_config", file)
    image = _known_activation(parsed.vision_config, "vision_config", file)
    # CLIPs were trained with one or the other; what a SigLIP leaves out is as it was published.
    is_stated = isinstance(parsed, Siglip) or all(
        "hidden_act" in tower.model_fields_set for tower in (parsed.text_config, parsed.vision_config)
    )
    chosen = options.activation
    if chosen is not None:
        says = " and ".join(sorted({text, image}))
        warning = f"activation {chosen} as you chose it, where {file.name} says {says}"
        return {"activation": chosen}, "the command line", [warning] if is_stated and {chosen} != {text, image} else []
    fields = {"activation": image, "text_activation": text if text != image else None}
    if is_stated:
        return fields, file.name, []
    warning = (
        f"{file.name} does not say hidden_act for both towers: {ClipText().hidden_act}, the default of transformers, "
        "is used; if the model was trained with another, name it with --activation"
    )
    return fields, "the default of transformers", [warning]


def _known_activation(tower: Tower, name: str, file: Path) -> Activation:
    value = tower.hidden_act
    if value not in _ACTIVATIONS:
        raise CheckpointError(f"{file}: {name}.hidden_act is {value[:100]!r}; there are only {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[value]


def _fields(parsed: Clip | Siglip, family: Family, file: Path) -> dict[str, Any]:
    text, image = parsed.text_config, parsed.vision_config
    if image.num_channels != 3:
        raise CheckpointError(f"{file}: vision_config.num_channels is {image.num_channels}, not 3 (RGB)")
    return {
        "embed_dim": parsed.embed_dim,
        "text": {
            "kind": family,
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            **_our_tower(text),
        },
        "image": {
            "kind": "vit" if family == "clip" else "siglip",
            "image_size": _square(image.image_size, "image_size", file),
            "patch_size": _square(image.patch_size, "patch_size", file),
            **_our_tower(image),
        },
    }


def _our_tower(tower: Tower) -> dict[str, Any]:
    standard = tower.intermediate_size == 4 * tower.hidden_size
    return {
        "width": tower.hidden_size,
        "heads": tower.num_attention_heads,
        "layers": tower.num_hidden_layers,
        "mlp_width": None if standard else tower.intermediate_size,
        "norm_eps": tower.layer_norm_eps,
    }


def _their_tower(tower: ViTConfig | TextConfig | SiglipViTConfig | SiglipTextConfig) -> dict[str, Any]:
    return {
        "hidden_size": tower.width,
        "intermediate_size": tower.mlp_width or 4 * tower.width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "layer_norm_eps": tower.norm_eps,
    }


def _square(value: int | list[int], key: str, file: Path) -> int:
    sides = [value] if isinstance(value, int) else value
    if len(sides) not in (1, 2) or sides[0] != sides[-1]:
        raise CheckpointError(f"{file}: vision_config.{key} is {str(value)[:100]}: only squares are supported")
    return sides[0]


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    parts = [str(part) for part in first["loc"] if part not in _KINDS]
    where = ".".join(_THEIR_NAMES.get(part, part) for part in parts)
    return f"{where}: {first['msg']}" if where else first["msg"]
