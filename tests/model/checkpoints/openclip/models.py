"""Models of random weights that open_clip builds, saved as it saves them, and their outputs beside a bundle's."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import nn

from model.bundle import Bundle
from model.checkpoints.checkpoint import Checkpoint
from model.checkpoints.networks import to_network
from model.checkpoints.openclip import plain_state, siglip
from model.config import ModelConfig, Preprocessing
from model.export.graphs import ImageGraph, TextGraph
from model.network import build_network as network_of
from model.runtime.engine import Engine
from model.tokenizers.clip import TextTokenizer

TEXT = {"width": 64, "heads": 2, "layers": 2}
VIT: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 48, "patch_size": 16, "width": 64, "layers": 2, "head_width": 32},
    "text_cfg": TEXT,
}
RESNET = {"image_size": 64, "layers": [1, 2, 1, 1], "width": 8, "head_width": 64, "patch_size": None}
SIGLIP_VISION = {"timm_model_pretrained": False, "timm_pool": "map", "timm_proj": "none"}
SIGLIP_TEXT = {
    "context_length": 24,
    "vocab_size": 720,
    "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
    "tokenizer_kwargs": {"clean": "canonicalize"},
    "width": 64,
    "heads": 2,
    "layers": 2,
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
}
TEXTS = ["", "a dog", "A photo of TWO cafés!", "it's 3 o'clock &amp; time for tea", "of all things, " * 30]


def vary(vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    """The small ViT's configuration with other fields."""
    varied = copy.deepcopy(VIT) | top
    varied["vision_cfg"] |= vision or {}
    varied["text_cfg"] |= text or {}
    return varied


def build(open_clip: Any, cfg: dict[str, Any], seed: int = 0) -> nn.Module:
    """Their network, in which nothing is left at a value that hides a mistake."""
    torch.manual_seed(seed)
    fields = copy.deepcopy(cfg)
    network = open_clip.CustomTextCLIP if fields.pop("custom_text", False) else open_clip.CLIP
    model: nn.Module = network(**fields)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.running_mean = 0.1 * torch.randn(module.num_features)
            module.running_var = 0.5 + torch.rand(module.num_features)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "ln_" in name or "norm" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
        if name.endswith((".c_fc.weight", ".fc1.weight")):
            parameter.data *= 4  # or the activations would hardly differ
    return model.eval()


def save_folder(model: nn.Module, cfg: dict[str, Any], folder: Path, *, weights: str, **preprocess: Any) -> Path:
    """Write a hub folder: the configuration beside safetensors or a torch file, by the name in `weights`."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"model_cfg": cfg, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    state = model.state_dict()
    if weights.endswith(".safetensors"):
        save_file(state, folder / weights)
    else:
        torch.save(state, folder / weights)
    return folder


@dataclass(frozen=True)
class Ours:
    """What we compute for a checkpoint."""

    preprocessing: Preprocessing
    tokenizer: TextTokenizer
    logit_scale: float
    logit_bias: float
    embed_images: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
    embed_texts: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]]

    @classmethod
    def served(cls, bundle: Bundle) -> Ours:
        """Through the engine."""
        engine = Engine(bundle, provider="cpu")
        scores = (bundle.logit_scale, bundle.logit_bias or 0)
        return cls(bundle.preprocessing, bundle.tokenizer(), *scores, engine.embed_images, engine.embed_texts)

    @classmethod
    def read(cls, checkpoint: Checkpoint) -> Ours:
        """Through the modules that the graphs are written from, which takes a twentieth of the time."""
        network = to_network(checkpoint)
        image, text = ImageGraph(network, checkpoint.preprocessing).eval(), TextGraph(network).eval()
        bias = 0.0 if network.logit_bias is None else float(network.logit_bias.detach())

        def embed(graph: nn.Module) -> Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]:
            return torch.no_grad()(lambda values: graph(torch.from_numpy(values)).numpy())

        scores = (float(network.logit_scale.detach().exp()), bias)
        return cls(checkpoint.preprocessing, checkpoint.tokenizer, *scores, embed(image), embed(text))

    def vectors(self, pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
        """Of pictures, of TEXTS, and the logits of each picture for each text."""
        rows = [self.tokenizer.truncate(ids) for ids in self.tokenizer.encode(TEXTS)]
        image, text = self.embed_images(pixels), self.embed_texts(self.tokenizer.pad(rows))
        return [image, text, self.logit_scale * image @ text.T + self.logit_bias]


@torch.no_grad()
def their_vectors(model: Any, tokenizer: Any, pixels: npt.NDArray[np.uint8], ours: Ours) -> list[npt.NDArray[Any]]:
    """The same from a model of open_clip with its tokenizer."""
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (ours.preprocessing.mean, ours.preprocessing.std))
    scaled = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
    token_ids = tokenizer(TEXTS)
    image, text = model.encode_image(scaled, normalize=True), model.encode_text(token_ids, normalize=True)
    return [image.numpy(), text.numpy(), model.get_logits(scaled, token_ids)[0].numpy()]


def expect_same(ours: Ours, model: nn.Module, tokenizer: Any, pictures: int = 3) -> None:
    """Vectors and logits are those of a model of open_clip with its tokenizer."""
    pixels = random_pixels(ours.preprocessing.size, pictures)
    our, their = ours.vectors(pixels), their_vectors(model, tokenizer, pixels, ours)
    for mine, yours in zip(our[:2], their[:2], strict=True):
        np.testing.assert_allclose(mine, yours, atol=1e-5, rtol=0)
        assert (mine * yours).sum(axis=1).min() > 0.99999
    np.testing.assert_allclose(our[2], their[2], atol=1e-5 * ours.logit_scale, rtol=0)


def random_pixels(size: int, count: int) -> npt.NDArray[np.uint8]:
    """Pictures [count, size, size, 3] of noise."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def expect_same_shapes(open_clip: Any, cfg: dict[str, Any], config: ModelConfig) -> None:
    """The networks of both configurations have tensors of the same names and shapes; neither takes memory."""
    fields = copy.deepcopy(cfg)
    network = open_clip.CustomTextCLIP if fields.pop("custom_text", False) else open_clip.CLIP
    with torch.device("meta"):
        theirs = plain_state(network(**fields).state_dict())
        if cfg["vision_cfg"].get("timm_model_name"):
            theirs = siglip.our_names(theirs, cfg["text_cfg"])
        ours = network_of(config).state_dict()
    assert {name: t.shape for name, t in ours.items()} == {name: t.shape for name, t in theirs.items()}
