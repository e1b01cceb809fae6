"""The one folder that all peers read."""

from __future__ import annotations

from pathlib import Path

from model.bundle import Bundle


def write_model(folder: Path, bundle: Bundle) -> None:
    """Write the weights of an fp32 bundle as a CLIPModel folder of transformers.

    Raises CheckpointError for a variant or a ModifiedResNet, and where `folder` is not empty.
    """
    from model.checkpoints.transformers import write_folder  # torch, which has no place in a process that measures

    write_folder(bundle, folder)
