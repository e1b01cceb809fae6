"""open_clip: hub folders and training checkpoints in, hub folders out."""

from model.checkpoints.openclip.reading import plain_state, read_architecture, read_folder, read_training
from model.checkpoints.openclip.writing import CONFIG, write_folder

__all__ = ["CONFIG", "plain_state", "read_architecture", "read_folder", "read_training", "write_folder"]
