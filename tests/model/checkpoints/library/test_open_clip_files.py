"""Training checkpoints and files of weights, whose architecture open_clip has and the user names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from model.bundle import Bundle
from model.checkpoints.checkpoint import CheckpointError, LibraryCheckpoint, Options
from model.checkpoints.importer import read_checkpoint
from model.checkpoints.openclip.architecture import name_of
from model.commands.convert import read_architecture
from tests.conftest import SHIMS
from tests.model.checkpoints.library.folders import bert, mt5
from tests.model.checkpoints.openclip.models import TEXTS, build, save_folder, vary

ROOT = Path(__file__).parents[4]
CFG = vary({"no_ln_pre": True})


def test_a_training_checkpoint_by_the_json_of_its_architecture(open_clip: Any, tmp_path: Path) -> None:
    network = build(open_clip, CFG)
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"epoch": 3, "name": "run", "state_dict": state}, tmp_path / "epoch_3.pt")
    (tmp_path / "mine.json").write_text(json.dumps({"model_cfg": CFG, "preprocess_cfg": {"resize_mode": "squash"}}))
    checkpoint = read_checkpoint(tmp_path / "epoch_3.pt", read_architecture(str(tmp_path / "mine.json"), Options()))
    assert isinstance(checkpoint, LibraryCheckpoint)
    config = checkpoint.network.config
    assert (config.name, config.architecture, checkpoint.preprocessing.resize_mode) == ("epoch_3", "mine", "squash")
    assert "state_dict" in checkpoint.source["unwrapped"]
    pixels = torch.rand(1, 3, 48, 48)
    with torch.no_grad():
        np.testing.assert_allclose(checkpoint.network.encode_image(pixels), network.encode_image(pixels), atol=1e-5)


def test_a_tokenizer_of_its_own_is_named(open_clip: Any, tmp_path: Path) -> None:
    text = {"hf_tokenizer_name": "google/mt5-base", "vocab_size": 700, "pool_type": "eos", "eos_id": 1}
    cfg = vary(text={**text, "tokenizer_kwargs": {"clean": "canonicalize"}})
    network = build(open_clip, cfg)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    (tmp_path / "mine.json").write_text(json.dumps(cfg))
    with pytest.raises(CheckpointError, match=r"'google/mt5-base'.*name the folder of that one with --tokenizer"):
        read_architecture(str(tmp_path / "mine.json"), Options())
    folder = mt5(tmp_path / "tokenizer")
    options = read_architecture(str(tmp_path / "mine.json"), Options(tokenizer=folder))
    checkpoint = read_checkpoint(tmp_path / "weights.pt", options)
    rows = [checkpoint.tokenizer.truncate(row) for row in checkpoint.tokenizer.encode(TEXTS)]
    theirs = open_clip.tokenizer.HFTokenizer(str(folder), 77, clean="canonicalize")(TEXTS)
    assert isinstance(checkpoint, LibraryCheckpoint)
    with torch.no_grad():
        for row, other in zip(rows, theirs, strict=True):
            ours = F.normalize(checkpoint.network.encode_text(torch.tensor([row])), dim=-1)
            np.testing.assert_allclose(ours, F.normalize(network.encode_text(other[None]), dim=-1), atol=1e-5)


@pytest.mark.parametrize("place", ["mine", "downloads/mine/0a1b2c", "models--laion--mine/snapshots/0a1b2c"])
def test_a_model_has_the_name_of_its_folder_or_its_repository(open_clip: Any, tmp_path: Path, place: str) -> None:
    folder = save_folder(build(open_clip, CFG), CFG, tmp_path / place, weights="model.safetensors")
    checkpoint = read_checkpoint(folder, Options())
    assert isinstance(checkpoint, LibraryCheckpoint)
    assert checkpoint.network.config.name == checkpoint.network.config.architecture == "mine"


@pytest.mark.usefixtures("open_clip")
def test_open_clips_architectures_are_known_by_name() -> None:
    assert read_architecture("ViT-B-32", Options()).preset
    ours = read_architecture("ViT-B-32-quickgelu", Options()).architecture
    assert ours
    assert ours.activation == "quick_gelu"
    library = read_architecture("EVA02-B-16", Options()).library_architecture
    assert library
    assert (library.name, library.model_cfg["embed_dim"]) == ("EVA02-B-16", 512)
    assert name_of(library.model_cfg) == "EVA02-B-16"
    assert name_of({**library.model_cfg, "embed_dim": 513}) is None
    with pytest.raises(CheckpointError, match=r"'EVA2-B-16': did you mean EVA02-B-16"):
        read_architecture("EVA2-B-16", Options())
    with pytest.raises(CheckpointError, match="--tokenizer belongs to an --architecture"):
        read_architecture(None, Options(tokenizer=Path()))


def test_weights_of_another_model_are_refused_before_they_are_built(open_clip: Any, tmp_path: Path) -> None:
    torch.save(build(open_clip, CFG).state_dict(), tmp_path / "weights.pt")
    options = read_architecture("EVA02-E-14", Options())
    with pytest.raises(CheckpointError, match=r"^\S+weights\.pt: (the file holds 2 models|\d+ of \d+ tensors)"):
        read_checkpoint(tmp_path / "weights.pt", options)


def test_a_tokenizer_that_ours_are_not_is_open_clips(open_clip: Any, tmp_path: Path) -> None:
    cfg = vary(text={"hf_tokenizer_name": "bert-base-uncased", "vocab_size": 700})
    folder = bert(tmp_path / "model")
    save_folder(build(open_clip, cfg), cfg, folder, weights="open_clip_model.safetensors")
    checkpoint = read_checkpoint(folder, Options())
    assert isinstance(checkpoint, LibraryCheckpoint)
    assert "BertTokenizer" in checkpoint.source["tokenizer_from"]


def test_the_command_imports_one_in_a_process_of_its_own(open_clip: Any, tmp_path: Path) -> None:
    cfg = vary(vision={"pool_type": "avg"})
    folder = save_folder(build(open_clip, cfg), cfg, tmp_path / "model", weights="open_clip_model.safetensors")
    command = [sys.executable, "-m", "model", "import", str(folder), "--to", str(tmp_path / "bundle")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": f"{ROOT}:{SHIMS}"})
    assert done.returncode == 0, done.stderr
    assert "serve it" in done.stdout
    assert Bundle.load(tmp_path / "bundle").manifest.source["library"].startswith("open_clip 3")
