"""The text tower that the section `text` asks for, over the image tower of what a run begins with."""

from __future__ import annotations

import torch
from torch import Tensor

from model.config import ModelConfig, load_preset
from model.network import CLIP, Network, build_network
from model.tokenizers.clip import Tokenizer
from training.config import ConfigError

# What is left behind of a start: its own text tower, and how its similarities were scaled, which was learned for that.
_TEXT = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection", "text.")
_SCALARS = ("logit_scale", "logit_bias")


def fresh_text_tower(start: Network, name: str) -> tuple[Network, Tokenizer]:
    """The text tower of the preset `name`, with random weights, over the image tower of `start`; and its tokenizer.

    Raises ConfigError.
    """
    preset = load_preset(name)
    network = with_text_tower(
        start, {"text": preset.text, "text_activation": preset.text_activation or preset.activation}, "text.preset"
    )
    return network, Tokenizer.clip(preset.text.vocab_size, preset.text.context_length)


def with_text_tower(start: Network, changes: dict[str, object], field: str) -> Network:
    """A network whose configuration has `changes`, all weights of `start` but those of its text tower, others random.

    Raises ConfigError that names `field`.
    """
    if not isinstance(start, CLIP):
        raise ConfigError(
            f"{field}: the image tower of {start.config.name} is SigLIP's, which goes with SigLIP's text tower only; "
            "take a start, or a preset, with a ViT or a ResNet of CLIP"
        )
    network = build_network(ModelConfig.model_validate({**dict(start.config), **changes}))
    kept: dict[str, Tensor] = {
        key: tensor for key, tensor in start.state_dict().items() if not key.startswith(_TEXT) and key not in _SCALARS
    }
    with torch.no_grad():
        network.load_state_dict(kept, strict=False)
    return network
