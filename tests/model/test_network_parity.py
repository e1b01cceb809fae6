"""The network against two independent implementations, on random weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from model.config import ModelConfig, ResNetConfig, ViTConfig
from model.network import CLIP
from tests.model.conftest import TEXT, TINY_RESNET, random_network

PARITY = [
    ModelConfig(
        name="vit",
        embed_dim=48,
        activation="quick_gelu",
        image=ViTConfig(image_size=56, patch_size=14, width=128, layers=3, heads=2),
        text=TEXT,
    ),
    ModelConfig(
        name="vit-gelu",
        embed_dim=64,
        activation="gelu",
        image=ViTConfig(image_size=64, patch_size=32, width=64, layers=2, heads=1),
        text=TEXT,
    ),
]


@pytest.mark.parametrize("config", PARITY, ids=lambda config: config.name)
def test_parity_with_transformers(config: ModelConfig) -> None:
    transformers = pytest.importorskip("transformers")
    network = random_network(config)
    theirs = _transformers_model(transformers, config)
    theirs.load_state_dict(_to_transformers(network), strict=False)
    pixels = torch.randn(3, 3, config.image.image_size, config.image.image_size)
    ids = torch.tensor([[1022, 5, 600, 1023, 0, 0], [1022, 7, 8, 9, 10, 1023]])
    with torch.no_grad():
        out = theirs(input_ids=ids, pixel_values=pixels)
        image, text = network(pixels, ids)
    torch.testing.assert_close(image, out.image_embeds, rtol=0, atol=1e-5)
    torch.testing.assert_close(text, out.text_embeds, rtol=0, atol=1e-5)


def _transformers_model(transformers: Any, config: ModelConfig) -> Any:
    image, text = config.image, config.text
    assert isinstance(image, ViTConfig)
    common = {"hidden_act": config.activation, "attention_dropout": 0.0, "projection_dim": config.embed_dim}
    return transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config={
                **common,
                "vocab_size": text.vocab_size,
                "hidden_size": text.width,
                "intermediate_size": 4 * text.width,
                "num_hidden_layers": text.layers,
                "num_attention_heads": text.heads,
                "max_position_embeddings": text.context_length,
                "eos_token_id": text.vocab_size - 1,
                "bos_token_id": text.vocab_size - 2,
            },
            vision_config={
                **common,
                "image_size": image.image_size,
                "patch_size": image.patch_size,
                "hidden_size": image.width,
                "intermediate_size": 4 * image.width,
                "num_hidden_layers": image.layers,
                "num_attention_heads": image.heads,
            },
            projection_dim=config.embed_dim,
        )
    ).eval()


def _to_transformers(network: CLIP) -> dict[str, torch.Tensor]:
    """The key map of the reference, section 1.6, from ours (OpenAI's) to theirs."""
    flat = {
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "logit_scale": "logit_scale",
    }
    prefixes = {
        "visual.ln_pre.": "vision_model.pre_layrnorm.",
        "visual.ln_post.": "vision_model.post_layernorm.",
        "visual.transformer.resblocks.": "vision_model.encoder.layers.",
        "transformer.resblocks.": "text_model.encoder.layers.",
        "ln_final.": "text_model.final_layer_norm.",
    }
    inner = {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
        "attn": "self_attn",
    }
    mapped = {}
    for name, tensor in network.state_dict().items():
        if name in flat:
            mapped[flat[name]] = tensor
        elif name == "visual.proj":
            mapped["visual_projection.weight"] = tensor.T
        elif name == "text_projection":
            mapped["text_projection.weight"] = tensor.T
        else:
            prefix = next(p for p in prefixes if name.startswith(p))
            target = prefixes[prefix] + name.removeprefix(prefix)
            for ours, theirs in inner.items():
                target = target.replace(f".{ours}.", f".{theirs}.")
            if ".in_proj_" in target:
                for part, which in zip(tensor.chunk(3), "qkv", strict=True):
                    mapped[target.replace("in_proj_", f"{which}_proj.")] = part
            else:
                mapped[target] = tensor
    return mapped


@pytest.mark.parametrize("config", [*PARITY, TINY_RESNET], ids=lambda config: config.name)
def test_parity_with_open_clip(config: ModelConfig, open_clip: Any) -> None:
    image, text = config.image, config.text
    if isinstance(image, ViTConfig):
        vision = {
            "layers": image.layers,
            "width": image.width,
            "patch_size": image.patch_size,
            "head_width": image.width // image.heads,
        }
    else:
        assert isinstance(image, ResNetConfig)
        vision = {"layers": image.layers, "width": image.width, "head_width": image.features // image.heads}
    theirs = open_clip.CLIP(
        config.embed_dim,
        {**vision, "image_size": image.image_size},
        {
            "context_length": text.context_length,
            "vocab_size": text.vocab_size,
            "width": text.width,
            "heads": text.heads,
            "layers": text.layers,
        },
        quick_gelu=config.activation == "quick_gelu",
    ).eval()
    network = random_network(config)
    theirs.load_state_dict(network.state_dict())  # the same names, or this fails
    pixels = torch.randn(3, 3, image.image_size, image.image_size)
    ids = torch.zeros(2, text.context_length, dtype=torch.int64)
    ids[0, :4] = torch.tensor([1022, 5, 600, 1023])
    ids[1, :6] = torch.tensor([1022, 7, 8, 9, 10, 1023])
    with torch.no_grad():
        torch.testing.assert_close(network.encode_image(pixels), theirs.encode_image(pixels), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(network.encode_text(ids), theirs.encode_text(ids), rtol=1e-5, atol=1e-5)
