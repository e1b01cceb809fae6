"""Folders of transformers: CLIPModel and SiglipModel by our own networks, and every dual encoder by transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.checkpoints import transformers
from model.checkpoints.checkpoint import Checkpoint, CheckpointError, LibraryCheckpoint, Options
from model.checkpoints.folders import read_object
from model.checkpoints.library import transformers as native
from model.checkpoints.library.transformers_network import FAMILIES


def read_folder(folder: Path, options: Options) -> Checkpoint | LibraryCheckpoint:
    """A folder with the config.json of a dual encoder, its weights, tokenizer and preprocessing.

    What our networks and tokenizers do not compute is built by transformers. Raises CheckpointError naming the file,
    field or tensor that cannot be imported.
    """
    content = read_object(folder / transformers.CONFIG)
    architecture = native.architecture_of(content)
    if architecture in FAMILIES and architecture not in transformers.OURS:
        transformers.refuse_quantised(content, folder / transformers.CONFIG)
        return _read_native(folder, content, options)
    try:
        return transformers.read_folder(folder, options)
    except transformers.NotOursError as refusal:
        if architecture not in FAMILIES or content.get("quantization_config") is not None:
            raise
        try:
            return _read_native(folder, content, options)
        except CheckpointError as error:
            raise CheckpointError(f"{refusal}; and by transformers itself: {error}") from error


def _read_native(folder: Path, content: Mapping[str, Any], options: Options) -> LibraryCheckpoint:
    settings, pixels_from = transformers.read_preprocessor(folder)
    read = native.read_folder(folder, content, settings, transformers.WEIGHT_FILES, options)
    read.source["preprocessing_from"] = "its processor's defaults" if settings is None else pixels_from
    return read
