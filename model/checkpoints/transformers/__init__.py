"""CLIPModel and SiglipModel folders of transformers, in and out."""

from model.checkpoints.transformers.config import CONFIG
from model.checkpoints.transformers.hf_folder import read_folder, write_folder

__all__ = ["CONFIG", "read_folder", "write_folder"]
