"""CLIPModel folders of transformers, in and out."""

from __future__ import annotations

from pathlib import Path

from model.bundle import Bundle
from model.checkpoints.checkpoint import Checkpoint, CheckpointError, Options

CONFIG = "config.json"


def read_folder(folder: Path, options: Options) -> Checkpoint:
    """A folder with the config.json of a CLIPModel, its weights, tokenizer and preprocessor configuration."""
    raise CheckpointError("not yet")


def write_folder(bundle: Bundle, folder: Path) -> None:
    """Write a folder that transformers loads with the same outputs."""
    raise CheckpointError("not yet")
