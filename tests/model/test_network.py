"""The network against the published parameter counts and initialisation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from model.config import PresetError, load_preset, preset_names
from model.network import CLIP
from model.network.vit import resize_positions
from tests.model.conftest import TEXT, TINY_RESNET, TINY_VIT, random_network

# Millions of parameters, image tower and text tower: open_clip's model_profile.csv; TinyCLIP's are in the names.
PUBLISHED = {
    "RN50": (38.32, 63.69),
    "RN101": (56.26, 63.43),
    "RN50x4": (87.14, 91.16),
    "RN50x16": (167.33, 123.65),
    "RN50x64": (420.38, 202.88),
    "ViT-B-32": (87.85, 63.43),
    "ViT-B-16": (86.19, 63.43),
    "ViT-L-14": (303.97, 123.65),
    "ViT-L-14@336px": (304.29, 123.65),
}
TINYCLIP = {"TinyCLIP-ViT-8M-16": (8, 3), "TinyCLIP-ViT-39M-16": (39, 19), "TinyCLIP-ViT-61M-32": (61, 29)}


def count(name: str) -> tuple[float, float]:
    with torch.device("meta"):
        network = CLIP(load_preset(name))
    visual = sum(p.numel() for p in network.visual.parameters())
    return visual / 1e6, (sum(p.numel() for p in network.parameters()) - visual) / 1e6


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_have_the_published_number_of_parameters(name: str) -> None:
    assert count(name) == pytest.approx(PUBLISHED[name], abs=0.006)


def test_vit_b_32_has_exactly_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = CLIP(load_preset("ViT-B/32"))
    assert sum(p.numel() for p in network.parameters()) == 151_277_313


@pytest.mark.parametrize("name", TINYCLIP)
def test_tinyclip_presets_have_the_size_in_their_names(name: str) -> None:
    image, text = count(name)
    embedding = load_preset(name).text.vocab_size * load_preset(name).text.width / 1e6
    assert (round(image), round(text - embedding)) == TINYCLIP[name]  # the names leave the token embedding out


def test_every_preset_is_its_own_name() -> None:
    assert all(load_preset(name).name == name for name in preset_names())
    with pytest.raises(PresetError, match="ViT-B-32"):
        load_preset("ViT-Z")


def test_initialisation_is_the_papers() -> None:
    torch.manual_seed(0)
    network = CLIP(TINY_VIT.model_copy(update={"text": TEXT.model_copy(update={"width": 256, "layers": 4})}))
    block = network.transformer.resblocks[0]
    assert network.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    assert network.token_embedding.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert network.positional_embedding.std().item() == pytest.approx(0.01, rel=0.05)
    assert block.attn.in_proj_weight.std().item() == pytest.approx(256**-0.5, rel=0.05)
    assert block.attn.out_proj.weight.std().item() == pytest.approx(256**-0.5 * 8**-0.5, rel=0.05)
    assert block.mlp.c_fc.weight.std().item() == pytest.approx(512**-0.5, rel=0.05)
    resnet = CLIP(TINY_RESNET).visual
    assert all(
        not parameter.any()
        for name, parameter in resnet.named_parameters()
        if name.endswith("bn3.weight") and name.startswith("layer")
    )


def test_both_stems_reduce_a_picture_alike() -> None:
    for stem in ("deep", "strided"):
        image = TINY_RESNET.image.model_copy(update={"stem": stem})
        network = random_network(TINY_RESNET.model_copy(update={"image": image})).eval()
        reached = []
        network.visual.layer1.register_forward_pre_hook(lambda _, entered, reached=reached: reached.append(entered[0]))
        with torch.no_grad():
            assert network.encode_image(torch.rand(2, 3, 64, 64)).shape == (2, 32)
        assert reached[0].shape == (2, 8, 16, 16), stem


def test_logit_scale_is_clamped() -> None:
    network = CLIP(TINY_VIT)
    network.logit_scale.data.fill_(9.0)
    network.clamp_logit_scale()
    assert network.logit_scale.exp().item() == pytest.approx(100)


def test_padding_changes_nothing() -> None:
    network = random_network(TINY_VIT)
    ids = torch.tensor([[1022, 5, 6, 7, 1023]])
    padded = torch.nn.functional.pad(ids, (0, 72))
    with torch.no_grad():
        torch.testing.assert_close(network.encode_text(ids), network.encode_text(padded), rtol=1e-5, atol=1e-5)


def test_positions_are_kept_or_resized() -> None:
    positions = torch.randn(1 + 49, 8)
    assert resize_positions(positions, 7) is positions
    larger = resize_positions(positions, 14)
    assert larger.shape == (1 + 196, 8)
    torch.testing.assert_close(larger[0], positions[0])
    flat = torch.cat([positions[:1], torch.ones(49, 8)])
    torch.testing.assert_close(resize_positions(flat, 3)[1:], torch.ones(9, 8))


class Lookup(nn.Module):
    """A text tower of another kind: a vector for each first token."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(TINY_VIT.text.vocab_size, TINY_VIT.embed_dim)

    def forward(self, token_ids: Tensor) -> Tensor:
        vector: Tensor = self.table(token_ids[:, 0])
        return vector


def test_a_text_tower_of_another_kind_takes_the_place_of_clips() -> None:
    network = CLIP(TINY_VIT, Lookup())
    names = {name.partition(".")[0] for name in network.state_dict()}
    assert names == {"visual", "text", "logit_scale"}
    token_ids = torch.tensor([[3, 1], [5, 2]])
    assert network.text is not None
    assert torch.equal(network.encode_text(token_ids), network.text(token_ids))
    _, text = network(torch.zeros(1, 3, 32, 32), token_ids)
    torch.testing.assert_close(text.norm(dim=-1), torch.ones(2))
