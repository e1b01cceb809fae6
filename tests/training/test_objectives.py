"""Losses against open_clip's, a teacher, locked towers, rates by layer, and bundles that are trained further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from typer.testing import CliRunner

from model.bundle import Bundle, bundled
from model.checkpoints.checkpoint import CheckpointError
from model.config import load_preset
from model.network import build_network
from model.runtime.engine import Engine
from tests.training.conftest import write_config
from training.__main__ import app
from training.config import ConfigError, Optimizer, load_config
from training.loop.optimizer import build_optimizer, layer_depths
from training.loop.setup import setup
from training.loop.trainer import Trainer
from training.objectives.contrastive import contrastive_loss
from training.objectives.distillation import affinity_loss
from training.objectives.sigmoid import sigmoid_loss
from training.run import train_and_export

COUNT = 6


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def gradients(loss: Tensor, *leaves: Tensor) -> list[Tensor]:
    return [loss.detach(), *torch.autograd.grad(loss, leaves)]


def leaves() -> list[Tensor]:
    image, text = unit(COUNT, 8), unit(COUNT, 8, seed=1)
    return [each.requires_grad_() for each in (image, text, torch.tensor(12.0), torch.tensor(-3.0))]


def test_the_contrastive_loss_and_its_gradients_are_open_clips(open_clip: Any) -> None:
    image, text, scale, _ = leaves()
    theirs = gradients(open_clip.loss.ClipLoss()(image, text, scale), image, text, scale)
    eye = torch.eye(COUNT) > 0
    loss = contrastive_loss(image, text, scale, eye, ~(eye | ~eye), torch.ones(COUNT))
    for one, other in zip(gradients(loss, image, text, scale), theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_the_sigmoid_loss_and_its_gradients_are_open_clips(open_clip: Any) -> None:
    image, text, scale, bias = leaves()
    theirs = gradients(open_clip.loss.SigLipLoss()(image, text, scale, bias), image, text, scale, bias)
    eye = torch.eye(COUNT) > 0
    loss = sigmoid_loss(image, text, scale, bias, eye, torch.zeros_like(eye))
    for one, other in zip(gradients(loss, image, text, scale, bias), theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_pairs_that_may_be_true_take_no_part_in_the_sigmoid_loss() -> None:
    image, text, scale, bias = leaves()
    eye = torch.eye(COUNT) > 0
    [_, gradient] = gradients(sigmoid_loss(image, text, scale, bias, eye, ~eye), text)
    alone = sum(-F.logsigmoid(scale * image[i] @ text[i] + bias) for i in range(COUNT)) / COUNT
    torch.testing.assert_close(gradient, torch.autograd.grad(alone, text)[0])


def test_a_students_affinity_is_best_where_it_is_the_teachers() -> None:
    teacher, scale = (unit(5, 8), unit(7, 8, seed=1)), torch.tensor(10.0)
    image = teacher[0].clone().requires_grad_()
    [_, gradient] = gradients(affinity_loss((image, teacher[1]), scale, teacher, 10), image)
    assert gradient.abs().max() < 1e-6
    mirrored = teacher[0].flip(0), teacher[1]
    assert affinity_loss(mirrored, scale, teacher, 10) > affinity_loss(teacher, scale, teacher, 10)


@pytest.mark.parametrize("preset", ["sightword-small", "TinyCLIP-ViT-8M-16"])
def test_layers_learn_slower_the_deeper_they_are(preset: str) -> None:
    network = build_network(load_preset(preset))
    optimizer = build_optimizer(network, Optimizer(layer_decay=0.5))
    factors = {id(p): group["factor"] for group in optimizer.param_groups for p in group["params"]}
    of = {name: factors[id(parameter)] for name, parameter in network.named_parameters()}
    assert len(factors) == len(of)
    assert of["logit_scale"] == of["text_projection"] == of["ln_final.weight"] == 1
    assert of["visual.conv1.weight"] == min(value for name, value in of.items() if name.startswith("visual."))
    assert of["token_embedding.weight"] == 0.5 ** (load_preset(preset).text.layers + 1)
    blocks = [of[f"transformer.resblocks.{n}.ln_1.weight"] for n in range(load_preset(preset).text.layers)]
    assert blocks == [0.5 ** (len(blocks) - n) for n in range(len(blocks))]
    assert all(tower in ("image", "text", "") for tower, _ in layer_depths(network).values())


def trained(folder: Path, run: Path, **changes: Any) -> Trainer:
    trainer = setup(load_config(write_config(folder, **changes)), run, folder)
    trainer.fit()
    return trainer


def test_a_locked_tower_keeps_its_weights_and_its_statistics(colours: Path, tmp_path: Path) -> None:
    changes = {"lock": {"image": 1.0}, "start": str(bundled()), "model": None}
    before = {name: tensor.clone() for name, tensor in trained_from(colours, tmp_path, changes).items()}
    trainer = trained(colours, tmp_path / "run", **changes)
    after = trainer.network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith("visual.") for name in moved)
    assert "text_projection" in moved
    again = setup(trainer.config, tmp_path / "run", colours)  # its checkpoint lacks moments of what never moved
    assert again.state.step == trainer.config.steps


def trained_from(folder: Path, run: Path, changes: dict[str, Any]) -> dict[str, Tensor]:
    return setup(load_config(write_config(folder, **changes)), run / "untrained", folder).network.state_dict()


def test_a_tower_is_unlocked_on_the_way(colours: Path, tmp_path: Path) -> None:
    trained(colours, tmp_path / "run", lock={"text": 0.5}, steps=4, checkpoint_every=2, evaluate_every=4)
    moments = load_file(tmp_path / "run" / "checkpoints" / "step-000004" / "optimizer.safetensors")
    assert moments["text_projection/step"] == 2
    assert moments["visual.conv1.weight/step"] == 4


def test_the_bundled_checkpoint_is_trained_further_and_keeps_its_pixels_and_words(
    colours: Path, tmp_path: Path
) -> None:
    file = write_config(
        colours,
        model=None,
        start=str(bundled()),
        steps=20,
        optimizer={"learning_rate": 3e-4, "warmup_steps": 2, "layer_decay": 0.8},
    )
    bundle = train_and_export(load_config(file), colours, tmp_path / "run")
    source = bundle.manifest.source
    assert (source["kind"], source["from"]) == ("fine-tuned", "sightword-small")
    assert source["from_digest"] == Bundle.load(bundled()).digest
    assert str(bundled()) not in bundle.manifest.model_dump_json()
    assert bundle.preprocessing == Bundle.load(bundled()).preprocessing
    assert bundle.manifest.scores["colours"]["value"] > 0.9
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), "--data", f"{colours}/test-*.tar"])
    assert done.exit_code == 0, done.output


def test_a_bundle_is_trained_further_for_larger_pictures(colours: Path, tmp_path: Path) -> None:
    stages = [{"start": 0, "pixels": 64}, {"start": 0.5, "pixels": 128}]
    file = write_config(colours, model=None, start=str(bundled()), image_size=128, stages=stages, steps=4)
    bundle = train_and_export(load_config(file), colours, tmp_path / "run")
    assert bundle is not None
    assert bundle.preprocessing.size == bundle.image_size == 128
    assert bundle.manifest.source["resized_from"] == 96
    positions = load_file(bundle.path / "weights.safetensors")["visual.attnpool.positional_embedding"]
    assert len(positions) == 1 + 4 * 4
    pixels = np.zeros((2, 128, 128, 3), np.uint8)
    assert Engine(bundle).embed_images(pixels).shape == (2, 256)


def test_the_sigmoid_loss_learns_a_bias_that_the_bundle_carries(colours: Path, tmp_path: Path) -> None:
    file = write_config(colours, objective="sigmoid", steps=30, evaluate_every=15)
    bundle = train_and_export(load_config(file), colours, tmp_path / "run")
    assert bundle.logit_bias is not None
    assert bundle.logit_bias != -10
    assert bundle.manifest.scores["colours"]["value"] >= 0.5  # chance is 0.25


def test_a_student_comes_closer_to_its_teacher(colours: Path, tmp_path: Path) -> None:
    def distance(trainer: Trainer) -> float:
        inputs = trainer.loader.load(19)
        encoder, distillation = trainer.unit.encoder, trainer.unit.distillation
        assert distillation is not None
        with torch.no_grad():
            student = encoder.forward(inputs)
            scale = trainer.network.logit_scale.exp()
            return float(affinity_loss(student, scale, encoder.teacher_features(inputs, distillation.teacher), 20))

    changes = {"objective": {"teacher": str(bundled()), "teacher_scale": 20}, "steps": 20}
    trainer = setup(load_config(write_config(colours, **changes)), tmp_path / "run", colours)
    before = distance(trainer)
    trainer.fit()
    assert distance(trainer) < before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": "x"}, "and not both"),
        ({"model": None}, "name what to begin with"),
        ({"image_size": 128}, "image_size: a preset has its own"),
        ({"lock": {"image": 1, "text": 1}}, "nothing to learn"),
        ({"optimizer": {"warmup_steps": 2, "layer_decay": 0}}, "layer_decay"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_its_field(colours: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write_config(colours, **changes))


def test_crops_that_the_start_does_not_take_are_refused(colours: Path, tmp_path: Path) -> None:
    config = load_config(write_config(colours, model=None, start=str(bundled()), stages=[{"start": 0, "pixels": 50}]))
    with pytest.raises(ConfigError, match="multiple of 32"):
        setup(config, tmp_path, colours)
    config = load_config(write_config(colours, model=None, start=str(bundled()), image_size=100))
    with pytest.raises(CheckpointError, match="image size 100 is not a multiple of 32"):
        setup(config, tmp_path, colours)
