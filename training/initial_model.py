"""The initial model of a run: a preset with random weights, or the network of a bundle that is trained further."""

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
from model.tokenizers.clip import TextTokenizer, Tokenizer
from training.config import ConfigError, Text, TrainConfig
from training.objectives import build_objective
from training.text_towers import fresh_text_tower


@dataclass(frozen=True)
class InitialModel:
    """A network with its tokenizer and preprocessing; `origin` goes into the manifest of what is trained from it."""

    network: Network
    tokenizer: TextTokenizer
    preprocessing: Preprocessing
    origin: dict[str, Any]


def build_initial_model(config: TrainConfig) -> InitialModel:
    """Seed torch and build it, with the scalars of the objective.

    Raises ConfigError, BundleError, CheckpointError.
    """
    torch.manual_seed(config.seed)
    model = _from_bundle(Path(config.start), config.image_size) if config.start else _from_preset(config)
    if config.text is not None:
        model = _with_text_tower(model, config.text)
    try:
        config.check_stages(model.network.config)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if model.network.mixture is not None and config.objective.kind != "llip":
        raise ConfigError(
            f"objective.kind: {model.network.config.name} has several vectors of a picture, which are mixed for each "
            "text: set it to llip"
        )
    build_objective(config.objective).initialize(model.network)
    return model


def network_from_state(config: ModelConfig, state: Mapping[str, Tensor]) -> Network:
    """A network to be evaluated or exported, over the very tensors of `state`."""
    with torch.device("meta"):
        network = build_network(config)
        if "logit_bias" in state and network.logit_bias is None:
            network.logit_bias = nn.Parameter(torch.empty(()))
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def _from_preset(config: TrainConfig) -> InitialModel:
    preset = config.with_mixture(load_preset(config.model or ""))
    tokenizer = Tokenizer.clip(preset.text.vocab_size, preset.text.context_length)
    preprocessing = Preprocessing(size=preset.image.image_size)
    return InitialModel(build_network(preset), tokenizer, preprocessing, {"kind": "trained from scratch"})


def _with_text_tower(model: InitialModel, text: Text) -> InitialModel:
    """The model with another text tower, and its tokenizer."""
    network, tokenizer = fresh_text_tower(model.network, text.preset)
    origin = {**model.origin, "text": {"preset": text.preset}}
    return InitialModel(network, tokenizer, model.preprocessing, origin)


def load_start(config: TrainConfig) -> InitialModel:
    """The bundle that is trained further, for pictures of the size that it was made for."""
    assert config.start is not None
    return _from_bundle(Path(config.start), None)


def _from_bundle(path: Path, image_size: int | None) -> InitialModel:
    bundle = Bundle.load(path)
    checkpoint = read_bundle(bundle)
    if image_size is not None:
        checkpoint = resized(checkpoint, image_size)
    origin = {"kind": "fine-tuned", "from": bundle.id, "from_digest": bundle.digest, **checkpoint.source}
    return InitialModel(to_network(checkpoint).requires_grad_(), checkpoint.tokenizer, checkpoint.preprocessing, origin)
