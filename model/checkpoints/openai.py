"""Weights in OpenAI's layout: the architecture is inferred from the shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from model.checkpoints import pixels
from model.checkpoints.checkpoint import Checkpoint, CheckpointError, Options
from model.checkpoints.networks import refuse_foreign
from model.config import Activation, ModelConfig, load_preset, preset_names
from model.tokenizers.clip import CLIP_VOCAB_SIZE, Tokenizer, TokenizerError

HEAD_WIDTH = 64  # of all that OpenAI published, and of most others
# Image towers with wider heads: ViT-H-14, ViT-g-14 and ViT-bigG-14 of open_clip.
_IMAGE_HEADS = {1280: 16, 1408: 16, 1664: 16}
# Numbers about the model, and a mask, that archives hold beside the weights.
_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")


def read_state(
    state: Mapping[str, Tensor],
    options: Options,
    name: str,
    stated: Activation | None = None,
    *,
    archive: bool = False,
    assumed: Activation = "quick_gelu",
) -> Checkpoint:
    """A state dictionary with the names of OpenAI's release, or with those of our own `weights.safetensors`.

    `name` becomes the model's where its shapes are those of no preset. `stated` is the activation that the source
    states, and `assumed` the one where it states none; `archive` is whether it is a TorchScript archive. Raises
    CheckpointError naming the tensor that is missing or misshapen.
    """
    weights = {key: tensor for key, tensor in state.items() if key not in _NO_WEIGHTS}
    refuse_foreign(weights)
    warnings: list[str] = []
    activation, activation_from = _activation(options, stated, assumed, warnings)
    config = options.architecture or architecture(weights, activation, name, warnings)
    if config.text.kind != "clip":
        raise CheckpointError(f"the architecture {config.name} is not one of OpenAI's: name a ViT or a ResNet")
    if options.architecture is None or options.activation is not None:
        config = config.model_copy(update={"activation": activation, "text_activation": None})
    if "logit_scale" in weights and weights["logit_scale"].numel() == 1:
        weights["logit_scale"] = weights["logit_scale"].reshape(())  # both shapes are found
    source: dict[str, Any] = {
        "format": "TorchScript archive" if archive else "state dictionary in OpenAI's layout",
        "activation_from": activation_from,
        "preprocessing_from": "OpenAI's release" if options.preprocess_cfg is None else "the architecture's file",
    }
    preprocessing = pixels.from_openclip(options.preprocess_cfg or {}, config.image.image_size, options)
    return Checkpoint(config, weights, preprocessing, _tokenizer(config, warnings), source, warnings)


def architecture(state: Mapping[str, Tensor], activation: Activation, name: str, warnings: list[str]) -> ModelConfig:
    """The configuration that these shapes belong to. Raises CheckpointError naming a tensor that cannot be."""
    shapes = _Shapes(state)
    convolutional = "visual.layer1.0.conv1.weight" in state
    towers = {
        "embed_dim": shapes.of("text_projection", 2)[1],
        "image": _resnet(shapes) if convolutional else _vit(shapes),
        "text": _text(shapes),
    }
    try:
        config = ModelConfig.model_validate({"name": "unnamed", "activation": activation, **towers})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"the shapes give {where} {first['input']!r:.100}: {first['msg']}") from error
    for preset in map(load_preset, preset_names()):
        if _without_heads(preset) == _without_heads(config):
            return preset
    if getattr(config.image, "width", None) not in _IMAGE_HEADS:
        warnings.append(
            f"attention heads are taken to be {HEAD_WIDTH} wide, as in all that OpenAI published: shapes do not tell, "
            "and with another width every vector is wrong"
        )
    safe_name = re.sub(r"[^A-Za-z0-9@._-]+", "-", name).lstrip("@._-")[:100] or "clip"
    return config.model_copy(update={"name": safe_name})


class _Shapes:
    """Shapes by name, or the reason why there is none."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = state

    def of(self, name: str, dimensions: int) -> tuple[int, ...]:
        if name not in self.state:
            raise CheckpointError(
                f"there is no {name}: these are not weights in OpenAI's layout. Those of transformers and open_clip "
                "are imported with the folder that they came in"
            )
        shape = tuple(self.state[name].shape)
        if len(shape) != dimensions or 0 in shape:
            raise CheckpointError(f"{name} has shape {list(shape)}: {dimensions} dimensions are expected")
        return shape

    def count(self, pattern: str) -> int:
        """How many different numbers stand at the group of a pattern."""
        return len({match[1] for name in self.state if (match := re.match(pattern, name))})

    def grid(self, name: str) -> int:
        """The side of the square that position embeddings, one of them for the whole, are for."""
        positions = self.of(name, 2)[0]
        grid = math.isqrt(positions - 1)
        if grid < 1 or grid**2 + 1 != positions:
            raise CheckpointError(f"{name} has {positions} positions: a class token and a square are expected")
        return grid


def _vit(shapes: _Shapes) -> dict[str, Any]:
    width, _, patch_size, _ = shapes.of("visual.conv1.weight", 4)
    prefix = "visual.transformer.resblocks."
    return {
        "kind": "vit",
        "image_size": shapes.grid("visual.positional_embedding") * patch_size,
        "patch_size": patch_size,
        "width": width,
        "layers": shapes.count(rf"{re.escape(prefix)}(\d+)\."),
        "heads": _IMAGE_HEADS.get(width, _heads(width)),
        "mlp_width": _mlp_width(shapes, f"{prefix}0", width),
    }


def _resnet(shapes: _Shapes) -> dict[str, Any]:
    positions = "visual.attnpool.positional_embedding"
    return {
        "kind": "resnet",
        "block": "bottleneck" if "visual.layer1.0.conv3.weight" in shapes.state else "basic",
        "stem": "deep" if "visual.conv3.weight" in shapes.state else "strided",
        "image_size": shapes.grid(positions) * 32,
        "width": shapes.of("visual.layer1.0.conv1.weight", 4)[0],
        "layers": [shapes.count(rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4)],
        "heads": _heads(shapes.of(positions, 2)[1]),
    }


def _text(shapes: _Shapes) -> dict[str, Any]:
    vocab_size, width = shapes.of("token_embedding.weight", 2)
    prefix = "transformer.resblocks."
    return {
        "kind": "clip",
        "context_length": shapes.of("positional_embedding", 2)[0],
        "vocab_size": vocab_size,
        "width": width,
        "layers": shapes.count(rf"{re.escape(prefix)}(\d+)\."),
        "heads": _heads(width),
        "mlp_width": _mlp_width(shapes, f"{prefix}0", width),
    }


def _mlp_width(shapes: _Shapes, block: str, width: int) -> int | None:
    hidden = shapes.of(f"{block}.mlp.c_fc.weight", 2)[0]
    return None if hidden == 4 * width else hidden


def _heads(width: int) -> int:
    return max(1, width // HEAD_WIDTH)


def _without_heads(config: ModelConfig) -> dict[str, Any]:
    """The fields of a configuration that can be inferred from shapes."""
    return config.model_dump(
        exclude={"name": True, "activation": True, "text_activation": True, "image": {"heads"}, "text": {"heads"}}
    )


def _activation(
    options: Options, stated: Activation | None, assumed: Activation, warnings: list[str]
) -> tuple[Activation, str]:
    """The activation, and the source that decided it."""
    if options.activation is not None:
        chosen, source = options.activation, "--activation"
    elif options.architecture is not None:
        chosen, source = options.architecture.activation, f"the architecture {options.architecture.name}"
        if options.preset and stated is None:
            warnings.append(_unsure(chosen, "as the preset has it"))
    elif stated is not None:
        return stated, "the code in the archive"
    else:
        like = "as in OpenAI's models" if assumed == "quick_gelu" else "open_clip's own default"
        warnings.append(_unsure(assumed, like))
        return assumed, "assumed"
    if stated not in (None, chosen):
        warnings.append(f"activation {chosen}, from {source}, where the code in the archive computes {stated}")
    return chosen, source


def _unsure(chosen: Activation, like: str) -> str:
    other, whose = ("gelu", "most of open_clip's") if chosen == "quick_gelu" else ("quick_gelu", "OpenAI's")
    return (
        f"activation {chosen} is assumed, {like}: weights alone do not tell. If these were trained with {other}, as "
        f"{whose} were, vectors are somewhat wrong: say --activation {other}, or --activation {chosen} if it is right"
    )


def _tokenizer(config: ModelConfig, warnings: list[str]) -> Tokenizer:
    vocab_size = config.text.vocab_size
    try:
        tokenizer = Tokenizer.clip(vocab_size, config.text.context_length)
    except TokenizerError as error:
        raise CheckpointError(
            f"token_embedding.weight is for another tokenizer than CLIP's ({error}): import the folder with its own"
        ) from error
    if vocab_size != CLIP_VOCAB_SIZE:
        warnings.append(
            f"the vocabulary has {vocab_size} tokens, CLIP's has {CLIP_VOCAB_SIZE}: it is taken for CLIP's with the "
            "first merges, and with any other tokenizer every text is wrong"
        )
    return tokenizer
