"""From a source to a bundle: formats told apart, weights checked, position embeddings resized, nothing left behind."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from typer.testing import CliRunner

from model.__main__ import app
from model.bundle import Bundle, bundled
from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.importer import import_checkpoint, read_checkpoint
from model.checkpoints.networks import load_network, to_network
from model.config import ModelConfig
from model.runtime.engine import Engine
from tests.model.checkpoints.archives import checkpoint_of
from tests.model.conftest import TINY_RESNET, TINY_VIT, random_network


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle, list[str]]:
    """A file of the small ViT's weights in half precision, two of them shared, and the bundle it was imported as."""
    folder = tmp_path_factory.mktemp("imported")
    network = random_network(TINY_VIT)
    state = {name: tensor.half() for name, tensor in network.state_dict().items()}
    blocks = "transformer.resblocks.{}.mlp.c_fc.weight"
    state[blocks.format(1)] = state[blocks.format(0)]
    torch.save(state, folder / "epoch 1.pt")
    bundle, warnings = import_checkpoint(
        folder / "epoch 1.pt",
        folder / "bundle",
        Options(architecture=TINY_VIT),
        bundle_id="mine",
        origin={"repository": "org/name"},
    )
    return folder / "epoch 1.pt", bundle, warnings


def test_the_bundle_computes_what_the_weights_do(imported: tuple[Path, Bundle, list[str]]) -> None:
    file, bundle, _ = imported
    network = random_network(TINY_VIT)
    network.load_state_dict(torch.load(file))
    ids = np.array([[1022, 5, 600, 1023], [1022, 9, 1023, 0]])
    with torch.no_grad():
        theirs = F.normalize(network.encode_text(torch.from_numpy(ids)), dim=-1).numpy()
    np.testing.assert_allclose(Engine(bundle, provider="cpu").embed_texts(ids), theirs, atol=1e-5)


def test_the_bundle_says_where_it_came_from(imported: tuple[Path, Bundle, list[str]]) -> None:
    file, bundle, warnings = imported
    assert bundle.id == "mine"
    assert bundle.manifest.source == {
        "format": "state dictionary in OpenAI's layout",
        "activation_from": "the architecture tiny-vit",
        "preprocessing_from": "OpenAI's release",
        "file": "epoch 1.pt",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "repository": "org/name",
        "warnings": warnings,
    }
    assert ["first merges" in warning for warning in warnings] == [True]
    assert sorted(path.name for path in file.parent.iterdir()) == ["bundle", "epoch 1.pt"]


def test_a_bundle_is_restored_as_it_was(imported: tuple[Path, Bundle, list[str]]) -> None:
    file, bundle, _ = imported
    network = load_network(bundle)
    assert all(torch.equal(network.state_dict()[name], tensor.float()) for name, tensor in torch.load(file).items())
    network.visual.proj.data.zero_()  # its memory is its own
    assert Bundle.load(bundle.path).digest == bundle.digest
    variant = replace(bundle, manifest=bundle.manifest.model_copy(update={"precision": "fp16"}))
    with pytest.raises(CheckpointError, match="is a variant"):
        load_network(variant)


def test_a_folder_in_use_is_left_alone(imported: tuple[Path, Bundle, list[str]], tmp_path: Path) -> None:
    file, bundle, _ = imported
    for to in (bundle.path, file):
        with pytest.raises(CheckpointError, match="not an empty folder"):
            import_checkpoint(file, to, Options())
    assert Bundle.load(bundle.path).digest == bundle.digest


def test_what_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    state = random_network(TINY_VIT).state_dict()
    save_file(state, tmp_path / "good.safetensors")
    state["visual.proj"][3, 4] = torch.nan
    save_file(state, tmp_path / "bad.safetensors")
    (tmp_path / "to").mkdir()
    before = sorted(tmp_path.iterdir())
    options = Options(architecture=TINY_VIT)
    with pytest.raises(CheckpointError, match=r"visual\.proj holds values that are not finite"):
        import_checkpoint(tmp_path / "bad.safetensors", tmp_path / "to", options)
    with pytest.raises(CheckpointError, match="'a b' cannot be the id"):
        import_checkpoint(tmp_path / "good.safetensors", tmp_path / "to", options, bundle_id="a b")
    assert sorted(tmp_path.iterdir()) == before
    assert not list((tmp_path / "to").iterdir())


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    save_file(random_network(TINY_VIT).state_dict(), tmp_path / "good.safetensors")
    to = tmp_path / "good.safetensors" / "bundle"
    with pytest.raises(CheckpointError, match=r"bundle cannot be written"):
        import_checkpoint(tmp_path / "good.safetensors", to, Options(architecture=TINY_VIT))


def test_what_is_not_a_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, reason in {
        tmp_path / "missing": "does not exist",
        tmp_path / "empty": "neither open_clip_config.json nor config.json",
        bundled(): "is a bundle already",
    }.items():
        with pytest.raises(CheckpointError, match=reason):
            read_checkpoint(source, Options())
    (tmp_path / "sentences" / "0_CLIPModel").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"/sentences/0_CLIPModel/config\.json is missing"):
        read_checkpoint(tmp_path / "sentences", Options())
    (tmp_path / "empty" / "config.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_checkpoint(tmp_path / "empty", Options())


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file({"weight": torch.ones(2)}, file)
    result = CliRunner().invoke(app, ["import", str(file), "--to", str(tmp_path / "to")])
    assert result.exit_code == 1
    assert "there is no text_projection: these are not weights in OpenAI's layout" in result.output
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("config", [TINY_VIT, TINY_RESNET], ids=lambda config: config.name)
def test_the_tensors_move_into_the_network(config: ModelConfig) -> None:
    network = random_network(config)
    checkpoint = checkpoint_of(config)
    built = to_network(checkpoint)
    assert checkpoint.state == {}
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in built.state_dict().items())
    assert not built.training
    assert all(parameter.requires_grad for parameter in built.parameters())


def test_counters_of_training_may_be_missing() -> None:
    state = random_network(TINY_RESNET).state_dict()
    fewer = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert len(fewer) < len(state)
    built = to_network(checkpoint_of(TINY_RESNET, fewer)).state_dict()
    assert built["visual.bn1.num_batches_tracked"].item() == 0
    assert all(torch.equal(built[name], tensor) for name, tensor in fewer.items())


def test_weights_that_two_layers_share_become_two() -> None:
    state = random_network(TINY_VIT).state_dict()
    whole = torch.randn(2, 64)
    state["visual.ln_pre.weight"], state["visual.ln_pre.bias"] = whole[0], whole[1]
    state["ln_final.weight"] = state["ln_final.bias"]
    built = to_network(checkpoint_of(TINY_VIT, state))
    built.ln_final.weight.data.fill_(7)
    built.visual.ln_pre.weight.data.fill_(7)
    assert not (built.ln_final.bias == 7).any()
    assert torch.equal(built.visual.ln_pre.bias.detach(), whole[1])


@pytest.mark.parametrize(
    ("name", "tensor", "reason"),
    [
        ("ln_final.bias", None, "the checkpoint has no ln_final.bias, which tiny-vit needs"),
        ("ln_final.bias", torch.ones(65), r"ln_final.bias has shape \[65\], tiny-vit needs \[64\]"),
        ("ln_final.bias", torch.full((64,), torch.inf), "ln_final.bias holds values that are not finite"),
        ("ln_final.bias", torch.full((64,), torch.nan).half(), "ln_final.bias holds values that are not finite"),
        ("ln_final.bias", torch.ones(64, dtype=torch.int8), "quantised"),
        ("logit_scale", torch.tensor(21.0), "logit_scale is 21"),
        ("visual.extra.weight", torch.ones(1), r"visual\.extra\.weight belongs to no layer of tiny-vit"),
        ("transformer.resblocks.2.ln_1.bias", torch.ones(64), "belongs to no layer of tiny-vit"),
        ("visual.transformer.resblocks.0.ls_1.gamma", torch.ones(64), "LayerScale: not supported"),
        ("visual.head.weight", torch.ones(64), "a head of another tower"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(name: str, tensor: Tensor | None, reason: str) -> None:
    checkpoint = checkpoint_of(TINY_VIT)
    checkpoint.state.pop(name, None)
    if tensor is not None:
        checkpoint.state[name] = tensor
    with pytest.raises(CheckpointError, match=reason):
        to_network(checkpoint)


def test_a_refused_import_leaves_no_folder_behind(tmp_path: Path) -> None:
    (tmp_path / "page.pt").write_text("<html>")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        import_checkpoint(tmp_path / "page.pt", tmp_path / "new" / "a" / "b", Options())
    assert [file.name for file in tmp_path.iterdir()] == ["page.pt"]
