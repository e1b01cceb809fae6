"""Folders of transformers whose class is code of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.checkpoints.checkpoint import CheckpointError
from model.hub.remote_code import describe_remote_code


def refuse_remote_code(content: Mapping[str, Any], file: Path) -> None:
    """Raise CheckpointError where a config.json, read from `file`, has an auto_map to code for a class of its own."""
    if reason := describe_remote_code(content):
        raise CheckpointError(f"{file}: {reason}")
