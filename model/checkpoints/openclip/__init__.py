"""open_clip: hub folders and training checkpoints in, hub folders out."""

from model.checkpoints.openclip.architecture import (
    architecture_names,
    named_architecture,
    read_architecture,
    read_by_architecture,
)
from model.checkpoints.openclip.config import CONFIG
from model.checkpoints.openclip.folder import read_folder, write_folder
from model.checkpoints.openclip.training_checkpoint import plain_state, read_training

__all__ = [
    "CONFIG",
    "architecture_names",
    "named_architecture",
    "plain_state",
    "read_architecture",
    "read_by_architecture",
    "read_folder",
    "read_training",
    "write_folder",
]
