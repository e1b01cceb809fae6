"""CLIPModel and SiglipModel folders of transformers, in and out."""

from model.checkpoints.transformers.config import CONFIG
from model.checkpoints.transformers.reading import read_folder
from model.checkpoints.transformers.writing import write_folder

__all__ = ["CONFIG", "read_folder", "write_folder"]
