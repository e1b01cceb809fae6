"""Chunks, activations computed twice, dropped patches, layers unlocked one by one; and all of it resumed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model.config import ModelConfig, ResNetConfig, SiglipTextConfig, SiglipViTConfig, TextConfig
from model.network import build_network
from model.network.gradient_checkpointing import frozen_statistics, set_grad_checkpointing
from tests.training.conftest import TINY, assert_same_bits, further, write_config
from training.config import ConfigError, Lock, load_config
from training.loop.setup import setup
from training.loop.towers import TowerFreezing
from training.loop.trainer import train_step

RESNET = ModelConfig(
    name="tiny-resnet",
    embed_dim=16,
    activation="gelu",
    image=ResNetConfig(image_size=32, width=8, layers=(1, 2, 1, 1), heads=4),
    text=TextConfig(context_length=16, vocab_size=1024, width=32, heads=2, layers=2),
)
TINY_SIGLIP = ModelConfig(
    name="tiny-siglip",
    embed_dim=32,
    activation="gelu_tanh",
    image=SiglipViTConfig(image_size=32, patch_size=8, width=32, layers=2, heads=2),
    text=SiglipTextConfig(context_length=16, vocab_size=1024, width=32, layers=2, heads=2),
)


def moments(folder: Path, run: Path, changes: dict[str, Any]) -> tuple[list[float], dict[str, Tensor]]:
    """Norms of the gradients and their first moments after two steps."""
    changes = {**changes, "steps": 2, "evaluate_every": 2}
    setup(load_config(write_config(folder, **changes)), run, folder).fit()
    state = load_file(run / "checkpoints" / "step-000002" / "optimizer.safetensors")
    norms = [json.loads(line)["gradient_norm"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    return norms, {name: tensor for name, tensor in state.items() if name.endswith("exp_avg")}


@pytest.mark.parametrize(
    "saving",
    [{"accumulate": 4}, {"accumulate": 2, "gradient_checkpointing": True}, {"gradient_checkpointing": True}],
    ids=str,
)
@pytest.mark.parametrize("also", [{}, {"patch_dropout": 0.5, "objective": {"kind": "sigmoid"}}], ids=str)
def test_gradients_are_those_of_the_whole_batch(
    colours: Path, tiny: Path, tmp_path: Path, saving: dict[str, Any], also: dict[str, Any]
) -> None:
    norms, whole = moments(colours, tmp_path / "whole", further(tiny, **also))
    other_norms, other = moments(colours, tmp_path / "saving", further(tiny, **also, **saving))
    assert other_norms == pytest.approx(norms, rel=1e-5)
    assert other.keys() == whole.keys()
    for name, tensor in whole.items():
        near = 1e-5 * float(tensor.abs().max()) + 1e-6
        torch.testing.assert_close(other[name], tensor, rtol=0, atol=near)


@pytest.mark.parametrize("config", [TINY, RESNET, TINY_SIGLIP], ids=lambda config: config.name)
def test_activations_computed_twice_give_the_same_gradients_and_move_statistics_once(config: ModelConfig) -> None:
    torch.manual_seed(0)
    network = build_network(config).train()
    pixels = torch.randn(4, 3, config.image.image_size, config.image.image_size)
    ids = torch.randint(1, 500, (4, config.text.context_length))
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = []
    for recompute in (False, True):
        network.load_state_dict(start)
        network.zero_grad()
        set_grad_checkpointing(network, recompute)
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t.numel()) or t, lambda t: t):
            image, text = network(pixels, ids)
        (image @ text.T).square().sum().backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        found.append((sum(kept), gradients, {name: tensor.clone() for name, tensor in network.named_buffers()}))
    (most, gradients, buffers), (least, again, moved) = found
    assert least < 0.5 * most
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(gradients.values(), again.values(), strict=True))
    assert all(torch.equal(buffers[name], moved[name]) for name in buffers)


def test_statistics_of_batches_can_be_left_alone() -> None:
    network = build_network(RESNET).train()
    before = {name: tensor.clone() for name, tensor in network.named_buffers()}
    pixels = torch.randn(4, 3, 32, 32)
    with frozen_statistics(network):
        still = network.encode_image(pixels)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.named_buffers())
    assert torch.equal(still, network.encode_image(pixels))
    assert not torch.equal(before["visual.bn1.running_mean"], network.visual.bn1.running_mean)


def test_batch_norms_move_once_for_each_chunk(colours: Path, tmp_path: Path) -> None:
    trainer = setup(load_config(write_config(colours, accumulate=4)), tmp_path / "run", colours)
    for step in range(3):
        train_step(trainer.unit, trainer.loader.load(step))
    assert trainer.network.visual.bn1.num_batches_tracked == 3 * 4


@pytest.mark.parametrize("config", [TINY, TINY_SIGLIP], ids=lambda config: config.name)
def test_dropped_patches_are_not_looked_at(config: ModelConfig) -> None:
    network = build_network(config).eval()
    side, patch = config.image.image_size, config.image.patch_size
    pixels = torch.randn(2, 3, side, side)
    kept = torch.tensor([[0, 3], [1, 3]])
    with torch.no_grad():
        seen = network.encode_image(pixels, kept)
        pixels[0, :, :patch, patch : 2 * patch] += 1  # patch 1, of the first picture not kept
        pixels[1, :, :patch, :patch] += 1
        assert torch.equal(network.encode_image(pixels, kept), seen)
        pixels[0, :, :patch, :patch] += 1
        assert not torch.equal(network.encode_image(pixels, kept)[0], seen[0])
        everything = torch.arange((side // patch) ** 2).expand(2, -1)
        torch.testing.assert_close(network.encode_image(pixels, everything), network.encode_image(pixels))


def test_patches_are_dropped_by_step_and_picture(colours: Path, tiny: Path, tmp_path: Path) -> None:
    config = load_config(write_config(colours, **further(tiny, patch_dropout=0.75)))
    trainer = setup(config, tmp_path / "run", colours)
    [chunk], [again], [other] = (trainer.loader.load(step).micro_batches for step in (2, 2, 3))
    kept = chunk.kept
    assert kept is not None
    assert kept.shape == (32, 4)  # of 16 patches
    assert len({tuple(row) for row in kept.tolist()}) > 20
    assert torch.equal(kept, again.kept)
    assert not torch.equal(kept, other.kept)
    with pytest.raises(ConfigError, match="patch_dropout: sightword-small has no patches"):
        load_config(write_config(colours, patch_dropout=0.5))


def test_layers_are_unlocked_from_the_top_down() -> None:
    network = build_network(TINY)  # three bfreezing between what is below and what is above them
    freezing = TowerFreezing(network, Lock.model_validate({"image": [0.2, 0.6], "text": 0.5}), steps=10)
    assert [len(freezing.unfrozen("image", step)) for step in range(10)] == [0, 0, 1, 2, 3, 4, 5, 5, 5, 5]
    assert [len(freezing.unfrozen("text", step)) for step in (4, 5)] == [0, 4]
    assert freezing.apply(4)
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    bfreezing = {name.split(".")[3] for name in learning if name.startswith("visual.transformer")}
    assert bfreezing == {"1", "2"}
    assert {"visual.proj", "logit_scale"} <= learning
    assert not any(name.startswith(("transformer", "visual.conv1")) for name in learning)
    assert not freezing.apply(4)


def test_locked_stages_keep_their_statistics() -> None:
    network = build_network(RESNET)
    freezing = TowerFreezing(network, Lock.model_validate({"image": [0.0, 1.0]}), steps=6)
    freezing.apply(3)
    assert not network.visual.bn1.training
    assert not network.visual.get_submodule("layer1.0.bn1").training
    assert network.visual.get_submodule("layer4.0.bn1").training


KILLED = """
import os, sys
from pathlib import Path
from training.config import load_config
from training.loop.setup import setup
class Killer:
    def log(self, record):
        if record["step"] == 5: os.kill(os.getpid(), 9)
file = Path(sys.argv[1])
trainer = setup(load_config(file), Path(sys.argv[2]), Path(sys.argv[3]))
trainer.loggers = [Killer()]
trainer.fit()
"""


@pytest.mark.parametrize("objective", [{}, {"kind": "rank"}], ids=str)
def test_a_run_with_everything_that_was_killed_ends_with_the_same_bits(
    colours: Path, tiny: Path, tmp_path: Path, objective: dict[str, Any]
) -> None:
    everything = {
        "steps": 8, "evaluate_every": 4, "checkpoint_every": 3, "precision": "fp16", "patch_dropout": 0.5,
        "accumulate": 2, "gradient_checkpointing": True, "lock": {"image": [0.2, 0.9]},
        "objective": objective,
    }  # fmt: skip
    file = write_config(tmp_path, **further(tiny, **everything))
    whole = setup(load_config(file), tmp_path / "whole", colours)
    whole.fit()
    arguments = [str(file), str(tmp_path / "killed"), str(colours)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    resumed = setup(load_config(file), tmp_path / "killed", colours)
    assert resumed.state.step == 3
    assert resumed.state.scaler is not None
    resumed.fit()
    assert_same_bits(tmp_path / "whole", tmp_path / "killed")
    assert resumed.state == whole.state
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert {path.name for path in (tmp_path / "killed").rglob("*")} == {
        path.name for path in (tmp_path / "whole").rglob("*")
    }


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
