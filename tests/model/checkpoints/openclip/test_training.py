"""Training checkpoints of open_clip, and TinyCLIP's with names of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.importer import read_checkpoint
from tests.model.checkpoints.openclip.models import Ours, build, expect_same, vary

# Sizes that shapes tell: heads of 64.
CFG = vary({"width": 128, "head_width": 64}, {"width": 192, "heads": 3, "mlp_ratio": 2.5})


@pytest.fixture(scope="module")
def model(open_clip: Any) -> nn.Module:
    return build(open_clip, CFG)


def save(state: dict[str, Tensor], file: Path, **further: Any) -> Path:
    """As open_clip's trainer saves an epoch."""
    optimizer = torch.optim.AdamW([nn.Parameter(torch.ones(2))])
    torch.save({"epoch": 7, "name": "run-1", "state_dict": state, "optimizer": optimizer.state_dict(), **further}, file)
    return file


@pytest.mark.parametrize("prefix", ["", "module.", "module.text."])
def test_an_epoch_gives_the_vectors_of_the_model(open_clip: Any, model: nn.Module, tmp_path: Path, prefix: str) -> None:
    outer, custom = prefix.removesuffix("text."), prefix.endswith("text.")
    towers = ("visual.", "logit_scale")
    state = {
        f"{outer}{'' if name.startswith(towers) or not custom else 'text.'}{name}": tensor
        for name, tensor in model.state_dict().items()
    }
    file = save(state, tmp_path / "epoch_7.pt", state_dict_ema=state, scaler={"scale": 65536.0})
    checkpoint = read_checkpoint(file, Options(activation="gelu"))
    expect_same(Ours.read(checkpoint), model, open_clip.tokenize)
    assert checkpoint.source["format"] == "open_clip training checkpoint"
    assert (checkpoint.source["training_epoch"], checkpoint.source["training_name"]) == (7, "run-1")
    assert any("state_dict_ema" in warning for warning in checkpoint.warnings)
    unsaid = read_checkpoint(file, Options())
    assert unsaid.config.activation == "gelu"
    assert any("gelu is assumed, open_clip's own default" in warning for warning in unsaid.warnings)


def tinyclip_names(state: dict[str, Tensor], inner: str) -> dict[str, Tensor]:
    """The names that TinyCLIP's own network gives the same tensors."""
    named = {}
    for name, tensor in state.items():
        tower = "image_encoder" if name.startswith("visual.") else "text_encoder"
        tower = "logit_scale" if name == "logit_scale" else tower
        named[f"_{tower}.{inner}{name}"] = tensor
    return named


@pytest.mark.parametrize(("inner", "bare"), [("", True), ("module.", False)])
def test_tinyclips_checkpoints_give_the_vectors_of_the_model(
    open_clip: Any, model: nn.Module, tmp_path: Path, inner: str, bare: bool
) -> None:
    named = tinyclip_names(model.state_dict(), inner)
    file = tmp_path / "tinyclip.pt"
    if bare:
        torch.save(named, file)
    else:
        save(named, file)
    checkpoint = read_checkpoint(file, Options())
    assert checkpoint.config.activation == "gelu"
    assert "TinyCLIP" in checkpoint.source["activation_from"]
    assert not any("activation" in warning for warning in checkpoint.warnings)
    expect_same(Ours.read(checkpoint), model, open_clip.tokenize)
    assert read_checkpoint(file, Options(activation="quick_gelu")).config.activation == "quick_gelu"


def test_tinyclips_masked_layers_are_refused(model: nn.Module, tmp_path: Path) -> None:
    named = tinyclip_names(model.state_dict(), "module.")
    named["_image_encoder.module.l0_module.hidden_loga"] = torch.zeros(128)
    with pytest.raises(CheckpointError, match=r"l0_module\.hidden_loga.*not supported"):
        read_checkpoint(save(named, tmp_path / "auto.pt"), Options())


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"visual.trunk.pos_embed": torch.zeros(1)}, r"visual\.trunk.*open_clip_config\.json"),
        ({"module.logit_scale": torch.zeros(1), "logit_scale": torch.zeros(1)}, "logit_scale is in .* twice"),
        ({"visual.conv1.weight": "weights"}, r"holds a str as 'visual\.conv1\.weight'"),
        ({3: torch.zeros(1)}, "holds a Tensor as 3"),
        ([torch.zeros(1)], "state_dict is a list"),
    ],
)
def test_what_is_no_state_of_our_towers_is_refused(tmp_path: Path, state: Any, message: str) -> None:
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / "epoch_1.pt")
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "epoch_1.pt", Options())


@pytest.mark.parametrize(("prefix", "assumed"), [("", "quick_gelu"), ("module.", "gelu")])
def test_tensors_alone_are_taken_for_openais_unless_a_trainer_wrapped_them(
    model: nn.Module, tmp_path: Path, prefix: str, assumed: str
) -> None:
    torch.save({f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}, tmp_path / "plain.pt")
    assert read_checkpoint(tmp_path / "plain.pt", Options()).config.activation == assumed
