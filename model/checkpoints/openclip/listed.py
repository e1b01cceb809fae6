"""The configuration of a model that open_clip lists, where its repository holds weights alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.folders import write_object
from model.checkpoints.openclip.config import CONFIG

_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")


def write_listed_config(folder: Path, architecture: str, tag: str) -> str:
    """Write open_clip_config.json as the installed open_clip has it for an architecture and its tag; says its version.

    Raises CheckpointError where open_clip does not know them, and ModuleNotFoundError where it is not installed.
    """
    import open_clip

    model_cfg: dict[str, Any] | None = open_clip.get_model_config(architecture)
    listed: dict[str, Any] = open_clip.get_pretrained_cfg(architecture, tag)
    if not model_cfg or not listed:
        raise CheckpointError(f"open_clip {open_clip.__version__} has no {architecture} with the tag {tag}")
    preprocess_cfg = {key: listed[key] for key in _PREPROCESSING if key in listed}
    write_object(folder / CONFIG, {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg})
    return f"{CONFIG} is that of open_clip {open_clip.__version__}, as the repository has none"
