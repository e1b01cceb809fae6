"""open_clip: hub folders and training checkpoints in, hub folders out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.bundle import Bundle
from model.checkpoints.checkpoint import Checkpoint, CheckpointError, Options

CONFIG = "open_clip_config.json"


def read_folder(folder: Path, options: Options) -> Checkpoint:
    """A hub folder: open_clip_config.json beside safetensors or a torch file of weights."""
    raise CheckpointError("not yet")


def read_training(content: Mapping[str, Any], options: Options, name: str) -> Checkpoint:
    """The content of `epoch_N.pt`: `state_dict` with or without `module.`, and what the trainer kept beside it."""
    raise CheckpointError("not yet")


def write_folder(bundle: Bundle, folder: Path) -> None:
    """Write a hub folder that open_clip loads with the same outputs."""
    raise CheckpointError("not yet")
