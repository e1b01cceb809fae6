"""A checkpoint of any known format -> a bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from model.bundle import MANIFEST, Bundle
from model.checkpoints import huggingface, openai, openclip, siglip
from model.checkpoints.checkpoint import Checkpoint, CheckpointError, Options
from model.checkpoints.weights import read_file
from model.export import export_bundle
from model.network import Network, build_network


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
    if to.exists() and any(to.iterdir()):
        raise CheckpointError(f"{to} is not empty: name another folder, or remove it first")
    checkpoint = read_checkpoint(source, options)
    if options.image_size is not None:
        checkpoint = resized(checkpoint, options.image_size)
    draft = to.with_name(f"{to.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        export_bundle(
            build(checkpoint),
            draft,
            tokenizer=checkpoint.tokenizer,
            preprocessing=checkpoint.preprocessing,
            weights_dtype=weights_dtype,
            bundle_id=bundle_id,
            source={**checkpoint.source, **(origin or {}), "warnings": checkpoint.warnings},
        )
        if to.exists():
            to.rmdir()
        draft.rename(to)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return Bundle.load(to), checkpoint.warnings


def read_checkpoint(source: Path, options: Options) -> Checkpoint:
    """Tell the format of `source` and read it. Raises CheckpointError."""
    if source.is_dir():
        return _read_folder(source, options)
    if not source.is_file():
        raise CheckpointError(f"{source} does not exist: name a checkpoint file or a folder")
    content = read_file(source)
    name = source.stem
    if "state_dict" in content:
        return openclip.read_training(content, options, name)
    return openai.read_state(content, options, name)


def resized(checkpoint: Checkpoint, image_size: int) -> Checkpoint:
    """The checkpoint for pictures of another size: position embeddings are resized as open_clip does."""
    raise CheckpointError("not yet")


def build(checkpoint: Checkpoint) -> Network:
    """The network of a checkpoint, in float32. Raises CheckpointError naming a tensor that is missing or misshapen."""
    with torch.device("meta"):
        network = build_network(checkpoint.config)
    wanted = network.state_dict()
    state = {name: _widened(tensor) for name, tensor in checkpoint.state.items()}
    for name, tensor in wanted.items():
        if name not in state:
            raise CheckpointError(f"the checkpoint has no {name}, which {checkpoint.config.name} needs")
        if state[name].shape != tensor.shape:
            raise CheckpointError(
                f"{name} has shape {list(state[name].shape)}, {checkpoint.config.name} needs {list(tensor.shape)}"
            )
    surplus = sorted(set(state) - set(wanted))
    if surplus:
        raise CheckpointError(f"{surplus[0]} and {len(surplus) - 1} further tensors belong to no layer that we have")
    network.load_state_dict(state, assign=True)
    return network.eval()


def _read_folder(folder: Path, options: Options) -> Checkpoint:
    if (folder / MANIFEST).exists():
        raise CheckpointError(f"{folder} is a bundle already: serve it as it is")
    if (folder / openclip.CONFIG).exists():
        return openclip.read_folder(folder, options)
    if (folder / huggingface.CONFIG).exists():
        kind = json.loads((folder / huggingface.CONFIG).read_text("utf-8")).get("model_type")
        if kind in ("siglip", "siglip2"):
            return siglip.read_folder(folder, options)
        return huggingface.read_folder(folder, options)
    raise CheckpointError(f"{folder} has neither {openclip.CONFIG} nor {huggingface.CONFIG}")


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
