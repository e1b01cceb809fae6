"""Writing safetensors files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def write_tensors(state: Mapping[str, Tensor], file: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a file of safetensors, which everybody may read. Raises OSError where it cannot be written."""
    try:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, file, metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    file.chmod(0o644)  # safetensors writes 0600, which another user's service could not read
