"""The text tower that the section `text` asks for, over the image tower of what a run begins with."""

from __future__ import annotations

import logging
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.checkpoints.library.language_model import LanguageModel, read_language_model
from model.checkpoints.library.padding import padding_matters
from model.config import ModelConfig, load_preset
from model.network import CLIP, Network, PretrainedText, build_network
from model.suggestions import did_you_mean_path
from model.tokenizers.clip import TextTokenizer, Tokenizer
from model.tokenizers.fast import FastTokenizer
from training.config import ConfigError, Text

log = logging.getLogger(__name__)

# What is left behind of a start: its own text tower, and how its similarities were scaled, which was learned for that.
_TEXT = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection", "text.")
_SCALARS = ("logit_scale", "logit_bias")
_SHORTEST = 2  # tokens of a row that a graph takes
# Names, in any case, of the files of which every folder of a language model has the first and one of the others.
_CONFIG, _BESIDE = "config.json", ("modules.json", "model.safetensors", "pytorch_model.bin")


def build_text_tower(start: Network, text: Text) -> tuple[Network, TextTokenizer, dict[str, Any]]:
    """`start` with the text tower that `text` asks for, the tokenizer of that, and what it is, for the manifest.

    Raises ConfigError, and CheckpointError for a folder that is none of a language model.
    """
    if text.frozen is not None:
        return frozen_text_tower(start, text.frozen, text.alignment_layers)
    assert text.preset is not None
    network, tokenizer = fresh_text_tower(start, text.preset)
    return network, tokenizer, {"preset": text.preset}


def fresh_text_tower(start: Network, name: str) -> tuple[Network, Tokenizer]:
    """The text tower of the preset `name`, with random weights, over the image tower of `start`; and its tokenizer.

    Raises ConfigError.
    """
    preset = load_preset(name)
    changes = {"text": preset.text, "text_activation": preset.text_activation or preset.activation}
    tokenizer = Tokenizer.clip(preset.text.vocab_size, preset.text.context_length)
    return with_text_tower(start, changes, "text.preset"), tokenizer


def frozen_text_tower(start: Network, name: str, layers: int) -> tuple[Network, FastTokenizer, dict[str, Any]]:
    """A pretrained language model under so many alignment layers, over the image tower of `start`."""
    found = read_language_model(language_model_folder(name))
    for warning in found.warnings:
        log.warning("text.frozen: %s", warning)
    text = found.text.model_copy(update={"alignment_layers": layers})
    network = _with_language_model(start, text.model_dump(), found)
    [nothing] = found.tokenizer.encode([""])
    if len(nothing) < _SHORTEST or padding_matters(network, found.tokenizer):
        network = _with_language_model(start, {**text.model_dump(), "fixed_length": True}, found)
    assert isinstance(network.config.text, type(text))
    tokenizer = FastTokenizer.parse(found.tokenizer.content, network.config.text)
    origin = {"frozen": Path(name).name, "alignment_layers": layers, **found.source, "warnings": list(found.warnings)}
    return network, tokenizer, origin


def _with_language_model(start: Network, text: dict[str, Any], found: LanguageModel) -> Network:
    network = with_text_tower(start, {"text": text, "text_activation": None}, "text.frozen")
    assert isinstance(network.text, PretrainedText)
    network.text.encoder.load_state_dict(found.state)
    return network


def language_model_folder(name: str) -> Path:
    """The folder of that name, or the one in the installed package of that name that holds a language model.

    Nothing of the package is run. Raises ConfigError.
    """
    if Path(name).is_dir():
        return Path(name)
    try:
        listed = files(name) or []
    except (PackageNotFoundError, ValueError):
        near = did_you_mean_path(Path(name))
        raise ConfigError(f"text.frozen: {name} is neither a folder nor an installed package{near}") from None
    folders: dict[Path, set[str]] = {}
    for file in listed:
        folders.setdefault(Path(str(file.locate())).parent, set()).add(file.name)
    found = [folder for folder, names in folders.items() if _CONFIG in names and names.intersection(_BESIDE)]
    if len(found) != 1:
        raise ConfigError(
            f"text.frozen: the package {name} holds {len(found)} folders with a {_CONFIG} and weights: name the folder "
            f"itself{''.join(f', {folder}' for folder in found)}"
        )
    return found[0]


def with_text_tower(start: Network, changes: dict[str, Any], field: str) -> CLIP:
    """A network whose configuration has `changes`, all weights of `start` but those of its text tower, others random.

    Raises ConfigError that names `field`.
    """
    if not isinstance(start, CLIP):
        raise ConfigError(
            f"{field}: the image tower of {start.config.name} is SigLIP's, which goes with SigLIP's text tower only; "
            "take a start, or a preset, with a ViT or a ResNet of CLIP"
        )
    network = build_network(ModelConfig.model_validate({**dict(start.config), **changes}))
    assert isinstance(network, CLIP)
    kept: dict[str, Tensor] = {
        key: tensor for key, tensor in start.state_dict().items() if not key.startswith(_TEXT) and key not in _SCALARS
    }
    with torch.no_grad():
        network.load_state_dict(kept, strict=False)
    return network
