"""Hub folders of open_clip: read into checkpoints, and written from bundles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.bundle import Bundle
from model.checkpoints import pixels
from model.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointError,
    LibraryArchitecture,
    LibraryCheckpoint,
    Options,
    naming,
)
from model.checkpoints.folders import FORMAT, model_name, new_folder, read_object, write_object
from model.checkpoints.library import open_clip
from model.checkpoints.networks import load_network, writable_config
from model.checkpoints.openclip import siglip
from model.checkpoints.openclip.architecture import as_preprocess_cfg, name_of
from model.checkpoints.openclip.card import readme
from model.checkpoints.openclip.config import CONFIG, read_model_cfg, to_model_cfg
from model.checkpoints.openclip.fields import Section
from model.checkpoints.openclip.tokenizer import has_clips_tokenizer, read_tokenizer, write_tokenizer
from model.checkpoints.openclip.training_checkpoint import WEIGHTS, plain_state
from model.checkpoints.weights import INDEX, find_weights, read_file, read_weights
from model.checkpoints.wrappers import unwrap
from model.export.tensors import write_tensors

README = "README.md"


def read_folder(folder: Path, options: Options) -> Checkpoint | LibraryCheckpoint:
    """A hub folder: open_clip_config.json beside safetensors or a torch file of weights.

    What our networks or tokenizers do not compute is built by open_clip.
    """
    content = read_object(folder / CONFIG)
    with naming(folder / CONFIG):
        preprocess_cfg = as_preprocess_cfg(content)
    model_cfg: Any = content.get("model_cfg")
    preprocessing_from = CONFIG if preprocess_cfg else "open_clip's defaults"
    try:
        with naming(folder / CONFIG):
            parsed = read_model_cfg(model_cfg, options, model_name(folder))
        tokenizer, config, tokenizer_from = read_tokenizer(
            folder, Section("text_cfg.", model_cfg["text_cfg"]), parsed.config
        )
    except CheckpointError as refusal:
        name = model_name(folder)
        known_as = name_of(model_cfg) if isinstance(model_cfg, Mapping) else None
        named = LibraryArchitecture(known_as or name, model_cfg, str(refusal))
        with naming(folder / CONFIG):
            open_clip.checked(named)
        weights = find_weights(folder, _weights(folder))
        library = open_clip.read(named, weights, folder, preprocess_cfg, options, name)
        library.source.update(format="open_clip folder", preprocessing_from=preprocessing_from)
        return library
    with naming(folder / CONFIG):
        preprocessing = pixels.from_openclip(preprocess_cfg, config.image.image_size, options)
    source = {
        "format": "open_clip folder",
        "activation_from": parsed.activation_from,
        "tokenizer_from": tokenizer_from,
        "preprocessing_from": preprocessing_from,
    }
    described = Checkpoint(config, {}, preprocessing, tokenizer, source, parsed.warnings)
    return _read_weights(folder, model_cfg["text_cfg"], described)


def _read_weights(folder: Path, text_cfg: Mapping[str, Any], described: Checkpoint) -> Checkpoint:
    file = find_weights(folder, _weights(folder))
    content = read_weights(file) if file.name.endswith(INDEX) else read_file(file)
    with naming(file):
        unwrapped = unwrap(content)
        state = plain_state(unwrapped.state if unwrapped else content)
    if described.config.image.kind == "siglip":
        state = siglip.our_names(state, text_cfg)
    source = described.source | {"weights": file.name}
    if unwrapped and (what := unwrapped.described()):
        source["unwrapped"] = what
    warnings = [*described.warnings, *(unwrapped.warnings if unwrapped else [])]
    return replace(described, state=state, source=source, warnings=warnings)


def write_folder(bundle: Bundle, folder: Path) -> None:
    """Write a hub folder that open_clip loads with the same outputs; `folder` must be new or empty.

    Raises CheckpointError naming the layer that open_clip has no counterpart of.
    """
    config, own_tokenizer = writable_config(bundle), not has_clips_tokenizer(bundle)
    model_cfg = to_model_cfg(config, bundle.id if own_tokenizer else None)
    network = load_network(bundle)
    if network.logit_bias is not None and "init_logit_bias" not in model_cfg:
        model_cfg["init_logit_bias"] = float(network.logit_bias.detach())  # without it theirs has no bias to be loaded
    with new_folder(folder) as draft:
        preprocess_cfg = pixels.to_openclip(bundle.preprocessing)
        write_object(draft / CONFIG, {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg})
        write_tensors(network.state_dict(), draft / WEIGHTS[0], FORMAT)
        if own_tokenizer:
            write_tokenizer(bundle, draft)
        (draft / README).write_text(readme(bundle, own_tokenizer), "utf-8")


def _weights(folder: Path) -> list[str]:
    """Names that the file of weights may have: the usual ones, and the only one that there is."""
    others = [file.name for file in folder.iterdir() if file.suffix in (".safetensors", ".bin", ".pth", ".pt")]
    return [*WEIGHTS, *(others if len(others) == 1 else [])]
