"""Shards made by the tests, and a configuration that trains in seconds."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

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
