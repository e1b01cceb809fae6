"""Weights that other trainers have wrapped: unwrapped and said so, or refused with what was seen and looked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from typer.testing import CliRunner

from model.__main__ import app
from model.bundle import Bundle
from model.checkpoints import openclip
from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.importer import import_checkpoint, read_checkpoint
from model.checkpoints.networks import to_network
from tests.model.conftest import TINY_VIT, random_network
from tests.model.hub.published_models import save_huggingface

State = dict[str, Tensor]
OPTIONS = Options(architecture=TINY_VIT)


@pytest.fixture(scope="module")
def state() -> State:
    return dict(random_network(TINY_VIT).state_dict())


def other() -> State:
    return dict(random_network(TINY_VIT, seed=1).state_dict())


def prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def inside(state: State, segment: str) -> State:
    """As FSDP and activation checkpointing name the blocks that they wrap one by one."""
    return {name.replace("resblocks.0.", f"resblocks.0.{segment}."): tensor for name, tensor in state.items()}


def optimizer() -> dict[str, Any]:
    parameter = nn.Parameter(torch.ones(2))
    adam = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    adam.step()
    return adam.state_dict()


# What is saved, of the weights; and what the import says was taken off.
WRAPPED: dict[str, tuple[Callable[[State], Any], str]] = {
    "model_state_dict": (
        lambda s: {"epoch": 3, "model_state_dict": s, "optimizer_state_dict": optimizer(), "loss": 0.5},
        "the dictionary ['model_state_dict']",
    ),
    "model": (lambda s: {"model": s, "args": {"lr": 1e-4}, "scaler": {"scale": 2.0}}, "the dictionary ['model']"),
    "prefix": (lambda s: prefixed(s, "model."), "names without 'model.'"),
    "net": (lambda s: {"net": prefixed(s, "clip.")}, "the dictionary ['net'], names without 'clip.'"),
    "ddp": (lambda s: {"model": prefixed(s, "module.")}, "the dictionary ['model'], names without 'module.'"),
    "compiled": (lambda s: prefixed(s, "_orig_mod."), "names without '_orig_mod.'"),
    "compiled in ddp": (lambda s: prefixed(s, "module._orig_mod.model."), "names without 'module._orig_mod.model.'"),
    "lightning": (
        lambda s: {
            "epoch": 3,
            "pytorch-lightning_version": "2.6.0",
            "state_dict": prefixed(s, "model."),
            "optimizer_states": [optimizer()],
            "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
            "loops": {"fit_loop": {"state_dict": {}}},
        },
        "the dictionary ['state_dict'], names without 'model.'",
    ),
    "deepspeed": (
        lambda s: {"module": s, "ds_version": "0.18", "ds_config": {"zero": {"stage": 1}}, "param_shapes": [{}]},
        "the dictionary ['module']",
    ),
    "fsdp": (lambda s: inside(prefixed(s, "_fsdp_wrapped_module."), "_fsdp_wrapped_module"), "names without "),
    "checkpointing": (lambda s: inside(s, "_checkpoint_wrapped_module"), ""),
    "nested": (lambda s: {"state": {"app": {"model": s}}, "step": 5}, "the dictionary ['state']['app']['model']"),
    "averaged by torch": (
        lambda s: {"n_averaged": torch.tensor(5), **prefixed(s, "module.")},
        "names without 'module.'",
    ),
    "only an average": (lambda s: {"model_ema": s, "epoch": 1}, "the dictionary ['model_ema']"),
    "beside an average": (lambda s: {"model": s, "model_ema": other()}, "the dictionary ['model']"),
    "ema-pytorch": (
        lambda s: {"initted": torch.tensor(True), **prefixed(s, "online_model."), **prefixed(other(), "ema_model.")},
        "names without 'online_model.'",
    ),
    "in two places": (lambda s: {"model": s, "best": {"weights": s}}, "the dictionary ['model']"),
    "module of a task": (
        lambda s: {"state_dict": {**prefixed(s, "clip."), "head.weight": torch.ones(3), "loss.margin": torch.ones(1)}},
        "the dictionary ['state_dict'], names without 'clip.'",
    ),
}


@pytest.mark.parametrize("how", WRAPPED)
def test_it_is_unwrapped(state: State, tmp_path: Path, how: str) -> None:
    wrap, unwrapped = WRAPPED[how]
    torch.save(wrap(state), tmp_path / "checkpoint.pt")
    checkpoint = read_checkpoint(tmp_path / "checkpoint.pt", OPTIONS)
    assert str(checkpoint.source.get("unwrapped", "")).startswith(unwrapped)
    network = to_network(checkpoint)
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    ("how", "warning"),
    [
        ("only an average", "model_ema was read, an average over training"),
        ("beside an average", "the file also holds model_ema, an average"),
        ("ema-pytorch", "the file also holds ema_model, an average"),
        ("ema-pytorch", "1 entries beside the model were left out: initted"),
        ("averaged by torch", "left out: n_averaged"),
        ("module of a task", "2 entries beside the model were left out: head.weight, loss.margin"),
    ],
)
def test_what_is_left_out_is_said(state: State, tmp_path: Path, how: str, warning: str) -> None:
    torch.save(WRAPPED[how][0](state), tmp_path / "checkpoint.pt")
    assert any(warning in each for each in read_checkpoint(tmp_path / "checkpoint.pt", OPTIONS).warnings)


def test_safetensors_with_a_prefix_and_in_shards(state: State, tmp_path: Path) -> None:
    named = prefixed(state, "model.")
    save_file(named, tmp_path / "model.safetensors")
    names = list(named)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: named[name] for name in part}, tmp_path / file)
    places = {name: file for file, part in shards.items() for name in part}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    for name in ("model.safetensors", "model.safetensors.index.json"):
        checkpoint = read_checkpoint(tmp_path / name, OPTIONS)
        assert checkpoint.source["unwrapped"] == "names without 'model.'"
        assert set(to_network(checkpoint).state_dict()) == set(state)
    with pytest.raises(CheckpointError, match=r"one of the shards.*model\.safetensors\.index\.json"):
        read_checkpoint(tmp_path / "model-1.safetensors", OPTIONS)


def test_wrapped_weights_in_folders(tmp_path: Path) -> None:
    theirs = save_huggingface(tmp_path / "transformers")
    bundle, _ = import_checkpoint(theirs, tmp_path / "bundle", Options())
    openclip.write_folder(bundle, tmp_path / "open_clip")
    files = (
        ("transformers", "model.safetensors", "pytorch_model.bin"),
        ("open_clip",) + 2 * ("open_clip_model.safetensors",),
    )
    for folder, plain, wrapped in files:
        expected = to_network(read_checkpoint(tmp_path / folder, Options())).state_dict()
        state = prefixed(load_file(tmp_path / folder / plain), "clip.")
        (tmp_path / folder / plain).unlink()
        if wrapped.endswith(".bin"):
            torch.save({"epoch": 3, "state_dict": state}, tmp_path / folder / wrapped)
        else:
            save_file({**state, "head.weight": torch.ones(2)}, tmp_path / folder / wrapped)
        checkpoint = read_checkpoint(tmp_path / folder, Options())
        assert checkpoint.source["unwrapped"].endswith("names without 'clip.'")
        assert ("head.weight" in "".join(checkpoint.warnings)) == (folder == "open_clip")
        found = to_network(checkpoint).state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_file_is_known_by_its_content(state: State, tmp_path: Path) -> None:
    save_file(state, tmp_path / "weights.ckpt")
    assert set(to_network(read_checkpoint(tmp_path / "weights.ckpt", OPTIONS)).state_dict()) == set(state)


def test_the_command_and_the_bundle_say_what_was_unwrapped(state: State, tmp_path: Path) -> None:
    torch.save({"model_state_dict": prefixed(state, "model.")}, tmp_path / "checkpoint.pt")
    arguments = ["import", str(tmp_path / "checkpoint.pt"), "--to", str(tmp_path / "bundle")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    unwrapped = "the dictionary ['model_state_dict'], names without 'model.'"
    assert f"unwrapped: {unwrapped}" in result.output
    assert Bundle.load(tmp_path / "bundle").manifest.source["unwrapped"] == unwrapped


def zero_3(state: State) -> State:
    return {name: torch.empty(0) for name in state}


# What is saved, and what the refusal says of it.
REFUSED: list[tuple[Callable[[State], Any], str]] = [
    (lambda s: {"student": s, "teacher": other()}, "holds 2 models, student, teacher"),
    (
        lambda s: {"base_model.model.visual.proj.lora_A.weight": torch.ones(2, 2)},
        r"lora_A\.weight .*adapter \(LoRA\).*merge_and_unload",
    ),
    (lambda s: {"lora_unet_down.lora_down.weight": torch.ones(2, 2)}, "adapter"),
    (
        lambda s: {"model": {k: v for k, v in s.items() if not k.startswith("visual.")}},
        r"tensors in \['model'\].*transformer.*no picture tower",
    ),
    (lambda s: {k: v for k, v in s.items() if k.startswith("visual.")}, r"names begin with visual .*no text tower"),
    (
        lambda s: {k.removeprefix("visual."): v for k, v in s.items() if k.startswith("visual.")},
        "no text and no picture",
    ),
    (
        lambda s: {"backbone": {"fc.weight": torch.ones(2, 2)}, "epoch": 1},
        r"1 tensors in \['backbone'\].*beside it: epoch",
    ),
    (lambda s: {"epoch": 1, "loss": 0.5}, r"holds a int as 'epoch'.*0 tensors in the file"),
    (zero_3, r"token_embedding\.weight is empty.*zero_to_fp32"),
    (
        lambda s: {
            "model": {
                "m.text_model.embeddings.token_embedding.weight": torch.ones(2, 2),
                "m.vision_model.embeddings.patch_embedding.weight": torch.ones(2, 2, 1, 1),
            }
        },
        r"transformers.*config\.json.*\['model'\]",
    ),
    (
        lambda s: prefixed({**s, "visual.proj": torch.ones(64, 33)}, "model."),
        r"visual\.proj has shape \[64, 33\], tiny-vit needs \[64, 32\]",
    ),
]


@pytest.mark.parametrize(("wrap", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_whole_model_is_refused(
    state: State, tmp_path: Path, wrap: Callable[[State], Any], message: str
) -> None:
    torch.save(wrap(state), tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match=message):
        to_network(read_checkpoint(tmp_path / "checkpoint.pt", OPTIONS))


def test_folders_that_are_something_else_are_told_apart(state: State, tmp_path: Path) -> None:
    for name, files, message in [
        ("epochs", ["epoch_1.pt", "epoch_2.pt"], r"2 files of weights, epoch_1\.pt, epoch_2\.pt: name the one"),
        ("one", ["model.safetensors"], r"name the file of weights itself, .*model\.safetensors"),
        ("adapter", ["adapter_config.json", "adapter_model.safetensors"], "adapter .*merge_and_unload"),
        ("distributed", [".metadata", "__0_0.distcp"], "dcp_to_torch"),
        ("deepspeed", ["latest", "zero_to_fp32.py"], r"zero_to_fp32\.py"),
        ("nothing", ["README.md"], "no files of weights"),
    ]:
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_bytes(b"")
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(tmp_path / name, OPTIONS)


def test_a_file_that_would_run_code_is_still_refused(state: State, tmp_path: Path) -> None:
    from argparse import Namespace

    torch.save({"model": state, "args": Namespace(lr=1e-4)}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match=r"would run argparse\.Namespace when unpickled: refused"):
        read_checkpoint(tmp_path / "checkpoint.pt", OPTIONS)
