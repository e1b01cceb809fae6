"""Gradients above `optimizer.clip_norm` are scaled down to it, all by the same factor, and the weights show it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from model.network import Network, build_network
from tests.training.conftest import TINY, further, write_config
from training.config import load_config
from training.loop.optimizer import clip_gradients
from training.loop.processes import Processes
from training.loop.setup import setup

ALONE = Processes(0, 1, torch.device("cpu"), met=False)
SCALE = 256.0  # of float16's losses
FIRST_SHARE = 0.1  # of the first gradient in AdamW's first moment: 1 - betas[0]


def norm_of(tensors: list[Tensor]) -> float:
    return float(torch.cat([tensor.flatten() for tensor in tensors]).norm())


def with_gradients(norm: float) -> Network:
    """A network, with logit scale and bias, whose gradients have this norm together."""
    torch.manual_seed(0)
    network = build_network(TINY)
    network.logit_bias = nn.Parameter(torch.tensor(-10.0))
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    whole = norm_of([parameter.grad for parameter in network.parameters()])
    for parameter in network.parameters():
        parameter.grad.mul_(norm / whole)
    return network


def test_all_gradients_are_scaled_down_to_the_limit_by_one_factor() -> None:
    network, before = with_gradients(44.7), with_gradients(44.7)
    assert float(clip_gradients(network, 1.0, ALONE)) == pytest.approx(44.7, rel=1e-4)
    assert norm_of([parameter.grad for parameter in network.parameters()]) == pytest.approx(1.0, rel=1e-4)
    for (name, parameter), other in zip(network.named_parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad / 44.7, rtol=1e-4, atol=0, msg=name)


@pytest.mark.parametrize("limit", [44.8, 1e9, None])
def test_gradients_below_the_limit_keep_their_bits(limit: float | None) -> None:
    network, before = with_gradients(44.7), with_gradients(44.7)
    clip_gradients(network, limit, ALONE)
    assert all(
        torch.equal(one.grad, other.grad) for one, other in zip(network.parameters(), before.parameters(), strict=True)
    )


def test_parameters_without_gradient_are_passed_over() -> None:
    network = with_gradients(44.7)
    network.logit_bias.grad = None
    network.text_projection.grad = torch.zeros_like(network.text_projection)
    clip_gradients(network, 1.0, ALONE)
    assert network.logit_bias.grad is None
    assert norm_of([p.grad for p in network.parameters() if p.grad is not None]) == pytest.approx(1.0, rel=1e-4)


def run(folder: Path, into: Path, changes: dict[str, Any]) -> tuple[list[float], float, dict[str, Tensor]]:
    """Norms of the gradients, the norm of AdamW's first moments and the weights after two steps."""
    trainer = setup(load_config(write_config(folder, **changes)), into, folder)
    if changes.get("precision") == "fp16":  # torch's own first scale overflows here, and the step would be left out
        trainer.unit.scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    trainer.fit()
    state = load_file(into / "checkpoints" / "step-000002" / "optimizer.safetensors")
    norms = [json.loads(line)["gradient_norm"] for line in (into / "metrics.jsonl").read_text().splitlines()]
    moments = norm_of([tensor for name, tensor in state.items() if name.endswith("exp_avg")])
    return norms, moments, load_file(into / "checkpoints" / "step-000002" / "network.safetensors")


def clipped(run: Path) -> list[float]:
    return [json.loads(line)["clipped"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("also", [{}, {"objective": {"kind": "sigmoid"}}, {"precision": "fp16"}, {"accumulate": 2}])
def test_a_step_learns_from_clipped_gradients(colours: Path, tiny: Path, tmp_path: Path, also: dict[str, Any]) -> None:
    """Whatever its loss, and where float16's is scaled the gradients are unscaled first."""
    found = {}
    for limit in (0.01, 1e9):
        # With a large `eps` AdamW's steps follow the size of gradients.
        settings = {"learning_rate": 1e-2, "betas": [0.9, 0.98], "eps": 1.0, "warmup_steps": 1, "clip_norm": limit}
        changes = further(tiny, **{**also, "steps": 2, "evaluate_every": 2, "optimizer": settings})
        found[limit] = run(colours, tmp_path / str(limit), changes)
    (norms, moments, weights), (free_norms, free_moments, free_weights) = found[0.01], found[1e9]
    assert norms[0] == pytest.approx(free_norms[0], rel=1e-5)  # what is recorded is the norm before
    assert min(norms) > 0.02
    assert clipped(tmp_path / "0.01") == [1, 1]
    assert clipped(tmp_path / str(1e9)) == [0, 0]
    assert moments <= 0.01 * (FIRST_SHARE + 0.9 * FIRST_SHARE) * 1.001
    assert free_moments > 2 * moments
    assert any(not torch.equal(free_weights[name], weights[name]) for name in weights)
