"""Shards made by the tests, and a configuration that trains in seconds."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from model.config import ModelConfig, Preprocessing, TextConfig, ViTConfig
from model.export.bundle import export_bundle
from model.network import Network, build_network
from model.tokenizers.clip import Tokenizer
from training.run_folder import list_checkpoints

COLOURS = {"red": (220, 30, 30), "green": (30, 190, 60), "blue": (40, 60, 220), "yellow": (230, 220, 40)}


def picture(colour: str, seed: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """A noisy picture of one colour, as PNG."""
    rng = np.random.default_rng(seed)
    pixels = np.array(COLOURS[colour]) + rng.integers(-30, 30, (size[1], size[0], 3))
    out = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def write_shard(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train-0.tar and test-0.tar: pictures of four colours, labelled."""
    folder = tmp_path_factory.mktemp("colours")
    for name, count, first in (("train", 160, 0), ("test", 40, 1000)):
        members = {}
        for i in range(count):
            label = list(COLOURS)[i % len(COLOURS)]
            members[f"{i:04d}.png"] = picture(label, first + i)
            members[f"{i:04d}.json"] = json.dumps({"label": label, "captions": [], "tags": ["colour"]}).encode()
        write_shard(folder / f"{name}-0.tar", members)
    return folder


def write_config(folder: Path, **changes: Any) -> Path:
    settings: dict[str, Any] = {
        "name": "colours",
        "model": "sightword-small",
        "data": {
            "train": [{"shards": ["train-*.tar"]}],
            "test": {"colours": ["test-*.tar"]},
            "holdout": 0.2,
            "store_pixels": 48,
            "max_long_text": 0,
        },
        "steps": 12,
        "batch_size": 32,
        "stages": [{"start": 0, "pixels": 64}],
        "optimizer": {"learning_rate": 1e-3, "warmup_steps": 2},
        "ema_decay": 0.5,
        "min_crop": 0.8,
        "precision": "fp32",
        "evaluate_every": 6,
        "checkpoint_every": 4,
    }
    file = folder / f"config-{abs(hash(str(changes)))}.yaml"
    file.write_text(yaml.safe_dump(settings | changes), "utf-8")
    return file


TINY = ModelConfig(
    name="tiny",
    embed_dim=32,
    activation="quick_gelu",
    image=ViTConfig(image_size=32, patch_size=8, width=32, layers=3, heads=2),
    text=TextConfig(context_length=16, vocab_size=1024, width=32, heads=2, layers=2),
)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a small vision transformer: what it computes of a picture does not depend on the others."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    return export_tiny(build_network(TINY), folder)


def export_tiny(network: Network, folder: Path) -> Path:
    """A bundle of a network like TINY in `folder`."""
    export_bundle(
        network.eval(),
        folder,
        tokenizer=Tokenizer.clip(TINY.text.vocab_size, TINY.text.context_length),
        preprocessing=Preprocessing(size=TINY.image.image_size),
        weights_dtype="float32",
        bundle_id="tiny",
        source={"kind": "test"},
    )
    return folder


def further(bundle: Path, **changes: Any) -> dict[str, Any]:
    """Settings of a short run that begins with `bundle`; gradients are never clipped."""
    optimizer = {"learning_rate": 1e-3, "warmup_steps": 1, "clip_norm": 1e9}
    few = {"steps": 4, "evaluate_every": 4, "stages": [{"start": 0, "pixels": 32}], "optimizer": optimizer}
    return {"model": None, "start": str(bundle), **few, **changes}


def assert_same_bits(one: Path, other: Path) -> None:
    """The last checkpoints of two runs hold the same weights, averages and moments."""
    names = [list_checkpoints(run)[-1].name for run in (one, other)]
    assert names[0] == names[1]
    for what in ("network", "average", "optimizer"):
        file = f"checkpoints/{names[0]}/{what}.safetensors"
        first, second = load_file(one / file), load_file(other / file)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first), what
