"""A checkpoint of any known format -> a bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError

from model.bundle import MANIFEST, Bundle
from model.checkpoints import openai, openclip, transformers
from model.checkpoints.building import build
from model.checkpoints.checkpoint import Checkpoint, CheckpointError, Options, naming
from model.checkpoints.folders import new_folder
from model.checkpoints.resizing import resized
from model.checkpoints.torchscript import Archive
from model.checkpoints.weights import read_content
from model.config import ModelName
from model.export import export_bundle
from model.suggestions import did_you_mean_path

_SENTENCE_TRANSFORMERS = "0_CLIPModel"  # its folder for the model
_BUNDLE_ID: TypeAdapter[str | None] = TypeAdapter(ModelName | None)


def import_checkpoint(
    source: Path,
    to: Path,
    options: Options,
    *,
    weights_dtype: Literal["float32", "float16"] = "float32",
    bundle_id: str | None = None,
    origin: Mapping[str, Any] | None = None,
) -> tuple[Bundle, list[str]]:
    """Read the file or folder `source` and write it as a bundle into the folder `to`: the bundle, and warnings.

    `origin` is kept in the manifest beside what the reader knows of the source. Raises CheckpointError, or ExportError
    where the bundle does not compute what the network does; `to` is then as it was.
    """
    try:
        _BUNDLE_ID.validate_python(bundle_id)
    except ValidationError as error:
        raise CheckpointError(
            f"{bundle_id!r} cannot be the id of a bundle: letters, digits and @._- are allowed"
        ) from error
    try:
        with new_folder(to) as draft:
            checkpoint = read_checkpoint(source, options)
            if options.image_size is not None:
                checkpoint = resized(checkpoint, options.image_size)
            export_bundle(
                build(checkpoint),
                draft,
                tokenizer=checkpoint.tokenizer,
                preprocessing=checkpoint.preprocessing,
                weights_dtype=weights_dtype,
                bundle_id=bundle_id,
                source={**checkpoint.source, **(origin or {}), "warnings": checkpoint.warnings},
            )
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{to} cannot be written: {error}") from error
    return Bundle.load(to), checkpoint.warnings


def read_checkpoint(source: Path, options: Options) -> Checkpoint:
    """Tell the format of `source` and read it. Raises CheckpointError."""
    if source.is_dir():
        return _read_folder(source, options)
    if not source.is_file():
        raise CheckpointError(f"{source} does not exist: name a checkpoint file or a folder{did_you_mean_path(source)}")
    checkpoint = _read_file(source, options)
    with source.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    checkpoint.source.update(file=source.name, sha256=digest)
    return checkpoint


def _read_file(file: Path, options: Options) -> Checkpoint:
    content = read_content(file)
    with naming(file):
        if not isinstance(content, Archive):
            return openclip.read_training(content, options, file.stem)
        state = openclip.plain_state(content.state)
        return openai.read_state(state, options, file.stem, content.activation, archive=True)


def _read_folder(folder: Path, options: Options) -> Checkpoint:
    if (folder / MANIFEST).exists():
        raise CheckpointError(f"{folder} is a bundle already: serve it as it is")
    if (folder / openclip.CONFIG).exists():
        return openclip.read_folder(folder, options)
    if (folder / transformers.CONFIG).exists():
        return transformers.read_folder(folder, options)
    if (folder / _SENTENCE_TRANSFORMERS).is_dir():
        raise CheckpointError(f"{folder} is of sentence-transformers: name {folder / _SENTENCE_TRANSFORMERS} inside it")
    raise CheckpointError(
        f"{folder} has neither {openclip.CONFIG} nor {transformers.CONFIG}: name the file of weights itself"
    )
