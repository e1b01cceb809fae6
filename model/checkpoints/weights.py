"""Tensors by name from the files that checkpoints come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model.checkpoints.checkpoint import CheckpointError


def read_weights(file: Path) -> dict[str, Tensor]:
    """Tensors of a `.safetensors` file or of a torch file of nothing but tensors."""
    content = read_file(file)
    if not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{file} holds more than tensors")
    return content


def read_file(file: Path) -> dict[str, Any]:
    """The dictionary in a file: tensors, and in a training checkpoint also numbers, names and further dictionaries."""
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds a {type(content).__name__}, not a dictionary of tensors")
    return content
