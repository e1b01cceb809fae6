"""SigLIP's network against the published parameter counts, and what its towers look at."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from model.config import ModelConfig, SiglipTextConfig, SiglipViTConfig
from model.network import SigLIP, build_network
from model.network.vit import resize_grid

TINY = ModelConfig(
    name="tiny-siglip",
    embed_dim=48,
    activation="gelu_tanh",
    image=SiglipViTConfig(image_size=50, patch_size=14, width=48, layers=2, heads=3, mlp_width=100),
    text=SiglipTextConfig(context_length=16, vocab_size=100, width=32, layers=2, heads=2),
)
# Millions of parameters: open_clip's model_profile.csv.
PUBLISHED = {
    "ViT-B-16-SigLIP": (224, 16, 768, 12, 12, None, 32000, 203.16),
    "ViT-L-16-SigLIP-256": (256, 16, 1024, 24, 16, None, 32000, 652.15),
    "ViT-SO400M-14-SigLIP-384": (384, 14, 1152, 27, 16, 4304, 32000, 877.96),
    "ViT-B-16-SigLIP2": (224, 16, 768, 12, 12, None, 256000, 375.19),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_networks_have_the_published_number_of_parameters(name: str) -> None:
    image_size, patch_size, width, layers, heads, mlp_width, vocab_size, millions = PUBLISHED[name]
    tower = {"width": width, "layers": layers, "heads": heads, "mlp_width": mlp_width}
    image = SiglipViTConfig(image_size=image_size, patch_size=patch_size, **tower)
    text = SiglipTextConfig(vocab_size=vocab_size, **tower)
    with torch.device("meta"):
        network = build_network(ModelConfig(name=name, embed_dim=width, activation="gelu_tanh", image=image, text=text))
    assert isinstance(network, SigLIP)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)


@pytest.fixture
def network() -> SigLIP:
    torch.manual_seed(0)
    return SigLIP(TINY).eval()


@torch.no_grad()
def test_pixels_beyond_the_last_whole_patch_are_not_looked_at(network: SigLIP) -> None:
    pixels = torch.randn(2, 3, 50, 50)
    other = pixels.clone()
    other[:, :, 42:] += 1
    other[:, :, :, 42:] += 1
    torch.testing.assert_close(network.encode_image(other), network.encode_image(pixels))
    other[:, :, 41] += 1
    assert (network.encode_image(other) - network.encode_image(pixels)).abs().max() > 1e-3


@torch.no_grad()
def test_images_of_another_size_are_read_with_resized_positions(network: SigLIP) -> None:
    small = torch.randn(2, 3, 28, 28)
    resized = SigLIP(TINY.model_copy(update={"image": TINY.image.model_copy(update={"image_size": 28})})).eval()
    state = network.state_dict()
    name = "visual.positional_embedding"
    resized.load_state_dict(state | {name: resize_grid(state[name], 2)})
    torch.testing.assert_close(network.encode_image(small), resized.encode_image(small))
    assert network.encode_image(torch.randn(2, 3, 70, 70)).isfinite().all()


@torch.no_grad()
def test_a_text_is_read_in_both_directions_with_its_padding(network: SigLIP) -> None:
    ids = torch.randint(0, 100, (1, 16))
    for position in range(16):
        changed = ids.clone()
        changed[0, position] = (ids[0, position] + 1) % 100
        assert (network.encode_text(changed) - network.encode_text(ids)).abs().max() > 1e-5


def test_every_parameter_is_trained(network: SigLIP) -> None:
    image, text = network(torch.randn(3, 3, 50, 50), torch.randint(0, 100, (3, 16)))
    logits = network.logit_scale.exp() * image @ text.T + network.logit_bias
    targets = 2 * torch.eye(3) - 1
    torch.nn.functional.softplus(-targets * logits).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_scale_has_a_lower_bound_only(network: SigLIP) -> None:
    assert (network.logit_scale.item(), network.logit_bias.item()) == (pytest.approx(math.log(10)), -10)
    for value, kept in ((-1.0, 0.0), (4.77, 4.77)):
        network.logit_scale.data.fill_(value)
        network.clamp_logit_scale()
        assert network.logit_scale.item() == pytest.approx(kept)


def test_half_precision_stays_close(network: SigLIP) -> None:
    pixels, ids = torch.randn(2, 3, 50, 50), torch.randint(0, 100, (2, 16))
    with torch.no_grad():
        image, text = network(pixels, ids)
        half = SigLIP(TINY).eval()
        half.load_state_dict(network.state_dict())
        half_image, half_text = half.bfloat16()(pixels.bfloat16(), ids)
    assert half_image.dtype == torch.float32
    assert (image * half_image).sum(dim=1).min() > 0.99
    assert (text * half_text).sum(dim=1).min() > 0.99


def test_a_picture_smaller_than_a_patch_is_refused() -> None:
    with pytest.raises(ValidationError, match="smaller than patch_size"):
        SiglipViTConfig(image_size=10, patch_size=14, width=48, layers=1, heads=3)
