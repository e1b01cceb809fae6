"""Weights of networks that a library builds, as trainers have wrapped them: found by the network's own names."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.importer import read_checkpoint
from model.checkpoints.library.loading import fill, read_state
from model.checkpoints.library.open_clip_model import build
from model.checkpoints.library.outline import outline
from model.checkpoints.library.state_dicts import unwrap_for
from model.checkpoints.recognition import likely
from model.checkpoints.wrappers import dictionaries
from tests.model.checkpoints.openclip.models import TEXT, VIT, save_folder
from tests.model.checkpoints.test_wrappers import REFUSED, WRAPPED, prefixed, zero_3

State = dict[str, Tensor]
ONE = torch.ones(1)
CONVNEXT = {
    "embed_dim": 32,
    "vision_cfg": {"timm_model_name": "convnext_atto", "timm_pool": "", "timm_proj": "linear", "image_size": 64},
    "text_cfg": TEXT,
}


@pytest.fixture(scope="module")
def network(open_clip: Any) -> Any:
    return build(CONVNEXT, Path())


@pytest.fixture(scope="module")
def state(network: Any) -> State:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.fixture(scope="module")
def expected(open_clip: Any) -> State:
    """Of the network without memory, with the names that the text tower had in older files, too."""
    names = outline(partial(build, CONVNEXT, Path())).state_dict()
    return {**names, **{name.removeprefix("text."): like for name, like in names.items()}}


def other(state: State) -> State:
    return {name: tensor + 1 for name, tensor in state.items()}


# What those of our own networks are wrapped in, and averages as trainers write them.
HOW: dict[str, Callable[[State], Any]] = {
    name: wrap
    for name, (wrap, _) in WRAPPED.items()
    if name not in ("checkpointing", "fsdp", "beside an average", "ema-pytorch")
} | {
    "beside an average": lambda s: {"model": s, "model_ema": other(s)},
    "the average first": lambda s: {"state_dict_ema": other(s), "state_dict": s},
    "one dictionary in both": lambda s: {"ema": s, "model": s},
    "an average in the same dictionary": lambda s: {**s, **prefixed(other(s), "ema_model.")},
    "ema-pytorch": lambda s: {"initted": ONE, **prefixed(s, "online_model."), **prefixed(other(s), "ema_model.")},
    "blocks wrapped one by one": lambda s: {n.replace("stages.", "stages._orig_mod."): t for n, t in s.items()},
    "text tower without a place of its own": lambda s: {n.removeprefix("text."): t for n, t in s.items()},
}  # fmt: skip


@pytest.mark.parametrize("how", HOW)
def test_it_is_unwrapped(state: State, expected: State, how: str) -> None:
    found = unwrap_for(HOW[how](state), expected).state
    named = {name: found.get(name, found.get(name.removeprefix("text."))) for name in state}
    assert all(value is not None and torch.equal(value, state[name]) for name, value in named.items())


@pytest.mark.parametrize(
    ("how", "warning"),
    [
        ("only an average", "model_ema was read, an average over training: the file has no other"),
        ("the average first", "state_dict was read; the file also holds state_dict_ema, an average"),
        ("an average in the same dictionary", "the file itself was read; the file also holds ema_model, an average"),
        ("ema-pytorch", "1 entries beside the model were left out: initted"),
        ("module of a task", "2 entries beside the model were left out: head.weight, loss.margin"),
    ],
)
def test_what_is_left_out_is_said(state: State, expected: State, how: str, warning: str) -> None:
    assert any(warning in each for each in unwrap_for(HOW[how](state), expected).warnings)


def test_what_is_no_tensor_is_left_out_and_said(state: State, expected: State) -> None:
    found = unwrap_for({**state, "epoch": 3, "loss": 0.5}, expected)
    assert found.state.keys() == state.keys()
    assert found.warnings == ["2 entries beside the model were left out: epoch, loss"]


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda s: {"student": s, "teacher": other(s)}, "holds 2 models, student, teacher"),
        (lambda s: {f"m{i}": other(s) for i in range(8)}, "holds 8 models, m0, m1, m2, m3, m4, ...: save"),
        (zero_3, "is empty: the weights were divided among processes .*zero_to_fp32"),
        (REFUSED[1][0], r"lora_A\.weight .*adapter \(LoRA\).*merge_and_unload"),
        (lambda s: {"fc.weight": torch.ones(2, 2)}, "none of its tensors .* Seen: 1 tensors in the file"),
    ],
)
def test_what_is_not_one_whole_model_is_refused(
    state: State, expected: State, wrap: Callable[[State], Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        unwrap_for(wrap(state), expected)


def test_half_precision_is_loaded_from_the_file_tensor_by_tensor(network: Any, state: State, tmp_path: Path) -> None:
    """No second copy of the model comes about: what is read stays in the file, in its own precision."""
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    torch.save({"state_dict": prefixed(halves, "module.")}, tmp_path / "half.pt")
    read = read_state(tmp_path / "half.pt", state)
    assert read.state["visual.trunk.stem.0.weight"].dtype == torch.float16
    fill(network, read.state)
    loaded = network.state_dict()
    assert all(
        torch.equal(loaded[name], tensor.float()) for name, tensor in halves.items() if tensor.is_floating_point()
    )
    fill(network, state)


def test_numbers_that_float32_does_not_hold_are_refused(network: Any, state: State) -> None:
    name = "visual.trunk.stem.0.weight"
    for value, dtype, message in [
        (float("nan"), torch.float32, "not finite"),
        (1e300, torch.float64, "not finite"),
        (1.0, torch.float8_e4m3fn, "float8_e4m3fn: quantised"),
        (1, torch.int8, "int8: quantised"),
    ]:
        with pytest.raises(CheckpointError, match=rf"{name} holds .*{message}"):
            fill(network, {**state, name: torch.full(state[name].shape, value, dtype=torch.float64).to(dtype)})
    fill(network, state)


def test_a_folder_says_what_was_taken_off_and_left_out(state: State, open_clip: Any, tmp_path: Path) -> None:
    folder = save_folder(build(CONVNEXT, Path()), CONVNEXT, tmp_path / "model", weights="open_clip_model.safetensors")
    (folder / "open_clip_model.safetensors").unlink()
    wrapped = {
        "epoch": 3,
        "state_dict": {**prefixed(state, "model."), "loss.margin": torch.ones(1)},
        "ema": prefixed(other(state), "m."),
    }
    torch.save(wrapped, folder / "open_clip_pytorch_model.bin")
    checkpoint = read_checkpoint(folder, Options())
    assert checkpoint.source["unwrapped"] == "the dictionary ['state_dict'], names without 'model.'"
    assert "state_dict.model was read; the file also holds ema.m, an average over training" in checkpoint.warnings
    assert "1 entries beside the model were left out: loss.margin" in checkpoint.warnings


def chain(names: State, levels: int) -> dict[str, Any]:
    """Every level refers to the next one twenty times: 20^levels ways lead to the last."""
    inner: dict[str, Any] = names
    for _ in range(levels):
        inner = {f"d{i}": inner for i in range(20)}
    return inner


ENDLESS: dict[str, Callable[[], Any]] = {
    "many ways to one dictionary": lambda: chain({f"n{i}": ONE for i in range(20_000)}, 4),
    "names of dots": lambda: {"." * 200_000 + str(i): ONE for i in range(20)},
    "names of segments": lambda: {"module." * 30_000 + str(i): ONE for i in range(10)},
    "a prefix for every name": lambda: {f"p{i}.logit_scale": ONE for i in range(50_000)},
    "two names for every prefix": lambda: {f"p{i}.{n}": ONE for i in range(20_000) for n in ("logit_scale", "x")},
    "apples": lambda: {f"a{i}.image_encoder.model.patch_emb.0": ONE for i in range(50_000)},
}  # fmt: skip


@pytest.mark.parametrize("how", ENDLESS)
def test_the_time_is_bounded(expected: State, how: str) -> None:
    content, began = ENDLESS[how](), time.process_time()
    with pytest.raises(CheckpointError) as caught:
        fill(torch.nn.Linear(1, 1), unwrap_for(content, expected).state)
    assert len(str(caught.value)) < 4001
    assert sum(len(names) for _, names in dictionaries(content)) <= 300_000
    assert time.process_time() - began < 5


# By what a file has: what is said of it.
FOREIGN = {
    "image_encoder.model.patch_embed.0.rbr_conv.0.conv.weight": "Apple's MobileCLIP.*--architecture, MobileCLIP-S1",
    "m.visual.attn_pool.probe": "Meta's Perception Encoder.*timm/PE-Core-B-16.*PE-Core-T-16-384",
    "visual.blocks.0.attn.q_bias": "EVA-CLIP, as its own repository.*EVA02-B-16",
    "text_decoder.resblocks.0.ln_1.weight": "CoCa, with its decoder.*coca_ViT-B-32",
    "text.transformer.encoder.block.0.layer.0.layer_norm.weight": "mT5.*mt5-base-ViT-B-32",
    "text.transformer.embed_tokens.weight": "NLLB.*nllb-clip-base",
    "visual.trunk.rare.weight": "a tower of timm",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_whose_tensors_they_are_is_said(tmp_path: Path, name: str) -> None:
    save_file({name: torch.ones(2, 2)}, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=FOREIGN[name]):
        read_checkpoint(tmp_path / "weights.safetensors", Options())


def test_whose_a_whole_model_is_is_said_too(open_clip: Any, tmp_path: Path) -> None:
    """Of networks with names so like ours that they are read, and refused for a layer that is not ours."""
    cfg = {**VIT, "multimodal_cfg": {"layers": 1, "width": 192, "heads": 3, "context_length": 77}}
    decoder = dict(build({**cfg, "vision_cfg": {**VIT["vision_cfg"], "attentional_pool": True}}, Path()).state_dict())
    encoder = {name.removeprefix("text."): tensor for name, tensor in build(VIT, Path()).state_dict().items()}
    for state, message in [
        ({**encoder, "visual.attn_pool.probe": torch.ones(1, 1, 128)}, "Meta's Perception Encoder"),
        (decoder, "CoCa, with its decoder.*coca_ViT-B-32"),
    ]:
        torch.save({"epoch": 1, "state_dict": state}, tmp_path / "epoch_1.pt")
        with pytest.raises(CheckpointError, match=rf"not supported \(in .*{message}"):
            read_checkpoint(tmp_path / "epoch_1.pt", Options())


def test_multilingual_towers_are_told_apart_by_their_vocabulary() -> None:
    for shape, name in [
        ((250002, 768), "xlm-roberta-base-ViT-B-32"),
        ((250002, 1024), "xlm-roberta-large-ViT-H-14"),
        ((50265, 768), "roberta-ViT-B-32"),
    ]:
        assert name in likely({"text.transformer.embeddings.word_embeddings.weight": torch.empty(shape, device="meta")})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("MobileCLIP2-S0", "open_clip's MobileCLIP2-S0 has as many"),
        ("MobileCLIP-S2", "open_clip's MobileCLIP2-S2 and MobileCLIP-S2 have as many"),
        ("convnext_base", "ConvNeXt.*--architecture convnext_base"),
        ("EVA02-B-16", "an EVA of timm.*EVA02-B-16"),
        ("ViTamin-S", "a ViTamin of timm.*--architecture ViTamin-S"),
        ("coca_ViT-B-32", "CoCa.*--architecture coca_ViT-B-32"),
        ("PE-Core-T-16-384", "--architecture PE-Core-T-16-384"),
        ("ViT-B-16-SigLIP", "pools by attention.*--architecture ViT-B-16-SigLIP"),
    ],
)  # fmt: skip
def test_the_architecture_is_known_by_its_size(open_clip: Any, name: str, said: str) -> None:
    """Of the original's own networks, in the precision of their files."""
    tensors = outline(partial(build, open_clip.get_model_config(name), Path())).half().state_dict()
    assert re.search(said, likely(tensors))
