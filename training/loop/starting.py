"""What a run begins with: a preset with random weights, or the network of a bundle to be trained further."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.bundle import Bundle
from model.checkpoints.networks import read_bundle, to_network
from model.checkpoints.resizing import resized
from model.config import ModelConfig, Preprocessing, load_preset
from model.network import Network, build_network
from model.network.siglip import INITIAL_LOGIT_BIAS, INITIAL_LOGIT_SCALE
from model.tokenizers.clip import TextTokenizer, Tokenizer
from training.config import ConfigError, TrainConfig


@dataclass(frozen=True)
class Beginning:
    """A network and what goes with it; `origin` is told in the manifest of what is made of it."""

    network: Network
    tokenizer: TextTokenizer
    preprocessing: Preprocessing
    origin: dict[str, Any]


def begin(config: TrainConfig) -> Beginning:
    """Build it, seeded. Raises ConfigError, BundleError, CheckpointError."""
    torch.manual_seed(config.seed)
    beginning = _further(Path(config.start), config.image_size) if config.start else _anew(config)
    network = beginning.network
    if config.objective.kind == "sigmoid" and network.logit_bias is None:
        network.logit_bias = nn.Parameter(torch.tensor(INITIAL_LOGIT_BIAS))
        with torch.no_grad():
            network.logit_scale.fill_(INITIAL_LOGIT_SCALE)
    try:
        config.check_stages(network.config)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if config.objective.kind == "contrastive" and network.logit_bias is not None:
        raise ConfigError("a network with a logit bias was trained pair by pair: set objective.kind to sigmoid")
    return beginning


def network_of(config: ModelConfig, state: Mapping[str, Tensor]) -> Network:
    """A network to be evaluated or exported, over the very tensors of `state`."""
    with torch.device("meta"):
        network = build_network(config)
        if "logit_bias" in state and network.logit_bias is None:
            network.logit_bias = nn.Parameter(torch.empty(()))
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def _anew(config: TrainConfig) -> Beginning:
    preset = load_preset(config.model or "")
    tokenizer = Tokenizer.clip(preset.text.vocab_size, preset.text.context_length)
    preprocessing = Preprocessing(size=preset.image.image_size)
    return Beginning(build_network(preset), tokenizer, preprocessing, {"kind": "trained from scratch"})


def start_as_it_is(config: TrainConfig) -> Beginning:
    """The bundle that is trained further, for pictures of the size that it was made for."""
    assert config.start is not None
    return _further(Path(config.start), None)


def _further(path: Path, image_size: int | None) -> Beginning:
    bundle = Bundle.load(path)
    checkpoint = read_bundle(bundle)
    if image_size is not None:
        checkpoint = resized(checkpoint, image_size)
    origin = {"kind": "fine-tuned", "from": bundle.id, "from_digest": bundle.digest, **checkpoint.source}
    return Beginning(to_network(checkpoint).requires_grad_(), checkpoint.tokenizer, checkpoint.preprocessing, origin)
