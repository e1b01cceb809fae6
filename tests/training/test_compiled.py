"""Towers by torch.compile: with activations computed twice and with crops that grow they learn what they do without.

What the compiler is given is tested, not what it makes of it: `aot_eager` traces as inductor does, and is done sooner.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.network import CLIP, Network, build_network
from model.network.gradient_checkpointing import set_grad_checkpointing
from model.network.transformer import Stack, Transformer
from tests.training.conftest import TINY
from tests.training.test_loop import RESNET, TINY_SIGLIP
from training.loop.optimizer import layer_depths
from training.loop.towers import compile_blocks


@pytest.fixture(autouse=True)
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_module = nn.Module.compile
    torch._dynamo.reset()

    def compile_with_aot_eager(module: nn.Module, **options: Any) -> None:
        compile_module(module, backend="aot_eager", **options)

    monkeypatch.setattr(nn.Module, "compile", compile_with_aot_eager)


def learned(network: Network) -> list[dict[str, Tensor]]:
    """Gradients and statistics after steps with crops of two sizes and texts of two lengths."""
    found = []
    generator = torch.Generator().manual_seed(0)
    for side, length in ((32, 16), (64, 12)):
        network.zero_grad()
        pixels = torch.randn(4, 3, side, side, generator=generator)
        ids = torch.randint(1, 500, (4, 16), generator=generator)
        ids = ids if network.config.image.kind == "siglip" else ids[:, :length]
        (network.encode_image(pixels) @ network.encode_text(ids).T).square().sum().backward()
        gradients = {name: each.grad for name, each in network.named_parameters() if each.grad is not None}
        found.append({**gradients, **{name: each.clone() for name, each in network.named_buffers()}})
    return found


@pytest.mark.parametrize("config", [TINY, RESNET, TINY_SIGLIP], ids=lambda config: config.name)
def test_compiled_towers_take_checkpointing_and_growing_crops(config: ModelConfig) -> None:
    results = []
    for compiled in (False, True):
        torch.manual_seed(0)
        network = build_network(config).train()
        set_grad_checkpointing(network, compiled)
        if compiled:
            compile_blocks(network)
        results.append(learned(network))
    for plain, same in zip(*results, strict=True):
        assert plain.keys() == same.keys()
        for name in plain:
            near = 1e-5 * float(plain[name].abs().max()) + 1e-6
            torch.testing.assert_close(same[name], plain[name], rtol=0, atol=near, msg=name)


class Bag(nn.Module):
    """A text tower of another kind, with blocks of ours in it: the mean over the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(1024, 32)
        self.blocks = Transformer(Stack(32, 2, 2, None, 1e-5, "gelu"))

    def forward(self, token_ids: Tensor) -> Tensor:
        mean: Tensor = self.blocks(self.table(token_ids)).mean(1)
        return mean


def test_the_blocks_of_a_text_tower_of_another_kind_are_compiled_and_counted() -> None:
    results = []
    for compiled in (False, True):
        torch.manual_seed(0)
        network = CLIP(TINY, Bag()).train()
        if compiled:
            compile_blocks(network)
            blocks = [module for module in network.text.modules() if module._compiled_call_impl is not None]  # type: ignore[union-attr]
            assert len(blocks) == 2
        results.append(learned(network))
    for plain, same in zip(*results, strict=True):
        for name in plain:
            torch.testing.assert_close(same[name], plain[name], rtol=0, atol=1e-4, msg=name)
    depths = layer_depths(network)
    assert [depths[f"text.blocks.resblocks.{n}.ln_1.weight"] for n in (0, 1)] == [("text", 1), ("text", 2)]
    assert depths["text.table.weight"] == ("text", 0)
