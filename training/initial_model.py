"""The initial model of a run: a preset with random weights, or the network of a bundle that is trained further."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.bundle import Bundle
from model.category_config import CategoriesConfig
from model.checkpoints.networks import read_bundle, to_network
from model.checkpoints.resizing import resized
from model.config import ModelConfig, Preprocessing, load_preset
from model.network import Network, build_network
from model.tokenizers.clip import TextTokenizer, Tokenizer
from training.categories.vocabulary import Vocabulary
from training.config import ConfigError, Text, TrainConfig
from training.objectives import build_objective
from training.text_towers import build_text_tower

# Goes into the manifest of what is trained on categories, as it carries names of synsets.
WORDNET_NOTICE = "synsets of WordNet 3.0, Copyright 2006 by Princeton University, used under the WordNet 3.0 license"


@dataclass(frozen=True)
class InitialModel:
    """A network with its tokenizer and preprocessing; `origin` goes into the manifest of what is trained from it."""

    network: Network
    tokenizer: TextTokenizer
    preprocessing: Preprocessing
    origin: dict[str, Any]


def build_initial_model(config: TrainConfig, vocabulary: Vocabulary | None = None) -> InitialModel:
    """Seed torch and build it, with the scalars of the objective, and a table of `vocabulary` where that is CatLIP's.

    Raises ConfigError, BundleError, CheckpointError.
    """
    torch.manual_seed(config.seed)
    if config.start:
        model = _from_bundle(Path(config.start), config.image_size)
        _refuse_captions_for_categories(config, model.network)
    else:
        model = _from_preset(config) if vocabulary is None else _with_categories(config, vocabulary)
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
    network, tokenizer, described = build_text_tower(model.network, text)
    return InitialModel(network, tokenizer, model.preprocessing, {**model.origin, "text": described})


def _with_categories(config: TrainConfig, vocabulary: Vocabulary) -> InitialModel:
    """The image tower of a preset over a table of categories.

    The bias begins where every category is as likely as the categories are in the mean: from SigLIP's -10 the first
    steps would only move it there, as images have more than one of thousands of categories.
    """
    preset = load_preset(config.model or "")
    if preset.image.kind == "siglip":
        raise ConfigError(f"model: {preset.name} has SigLIP's towers; objective: categories takes CLIP's, as ViT-B-16")
    table = {"text": CategoriesConfig(categories=len(vocabulary)), "text_activation": None}
    network = build_network(preset.model_copy(update=table))
    assert network.logit_bias is not None
    with torch.no_grad():
        network.logit_bias.fill_(torch.logit(torch.tensor(vocabulary.mean_frequency), eps=1e-6))
    origin = {"kind": "trained from scratch", "categories": WORDNET_NOTICE}
    return InitialModel(network, vocabulary.tokenizer(), Preprocessing(size=preset.image.image_size), origin)


def _refuse_captions_for_categories(config: TrainConfig, network: Network) -> None:
    """Raise ConfigError where captions are to be learned by a bundle whose only texts are its categories."""
    kind = config.objective.kind
    if kind == "categories" and config.text is not None:
        raise ConfigError("text: a text tower learns from captions, and objective: categories from none: leave it away")
    if network.config.text.kind == "categories" and kind != "categories" and config.text is None:
        raise ConfigError(
            f"start: this bundle has categories and no text tower, and objective.kind {kind} learns from captions: "
            "give it a text tower, as `text: {preset: ViT-B-16}` with `lock: {image: 1}`, or set objective: categories"
        )


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
    if isinstance(checkpoint.config.text, CategoriesConfig):
        origin["categories"] = WORDNET_NOTICE
    return InitialModel(to_network(checkpoint).requires_grad_(), checkpoint.tokenizer, checkpoint.preprocessing, origin)
