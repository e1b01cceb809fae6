"""CLIPModel and SiglipModel folders of transformers, in and out."""

from model.checkpoints.transformers.config import CONFIG
from model.checkpoints.transformers.families import OURS, refuse_quantised
from model.checkpoints.transformers.hf_folder import (
    WEIGHT_FILES,
    NotOursError,
    read_folder,
    read_preprocessor,
    write_folder,
)

__all__ = [
    "CONFIG",
    "OURS",
    "WEIGHT_FILES",
    "NotOursError",
    "read_folder",
    "read_preprocessor",
    "refuse_quantised",
    "write_folder",
]
