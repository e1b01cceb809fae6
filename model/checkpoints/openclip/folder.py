"""Hub folders of open_clip: read into checkpoints, and written from bundles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.bundle import Bundle
from model.checkpoints import pixels
from model.checkpoints.checkpoint import Checkpoint, CheckpointError, LibraryCheckpoint, Options, naming
from model.checkpoints.folders import FORMAT, model_name, new_folder, read_object, write_object
from model.checkpoints.library import open_clip
from model.checkpoints.networks import load_network, own_config
from model.checkpoints.openclip import siglip
from model.checkpoints.openclip.card import readme
from model.checkpoints.openclip.config import CONFIG, ParsedConfig, read_model_cfg, to_model_cfg
from model.checkpoints.openclip.fields import Section
from model.checkpoints.openclip.tokenizer import has_clips_tokenizer, read_tokenizer, write_tokenizer
from model.checkpoints.openclip.training_checkpoint import WEIGHTS, plain_state
from model.checkpoints.weights import INDEX, find_weights, read_file, read_weights
from model.checkpoints.wrappers import unwrap
from model.export.tensors import write_tensors

README = "README.md"


def read_folder(folder: Path, options: Options) -> Checkpoint | LibraryCheckpoint:
    """A hub folder: open_clip_config.json beside safetensors or a torch file of weights.

    What our networks do not compute is built by open_clip.
    """
    content = read_object(folder / CONFIG)
    with naming(folder / CONFIG):
        preprocess_cfg = _preprocess_cfg(content)
    try:
        with naming(folder / CONFIG):
            parsed = read_model_cfg(content.get("model_cfg"), options, model_name(folder))
    except CheckpointError as refusal:
        if not isinstance(content.get("model_cfg"), Mapping):
            raise
        return open_clip.read_folder(folder, content, [*WEIGHTS, *_other_weights(folder)], options, refusal)
    text_cfg = content["model_cfg"]["text_cfg"]
    return _read_weights(folder, text_cfg, _describe(folder, preprocess_cfg, text_cfg, parsed, options))


def _describe(
    folder: Path,
    preprocess_cfg: Mapping[str, Any],
    text_cfg: Mapping[str, Any],
    parsed: ParsedConfig,
    options: Options,
) -> Checkpoint:
    """All but the weights."""
    with naming(folder / CONFIG):
        preprocessing = pixels.from_openclip(preprocess_cfg, parsed.config.image.image_size, options)
    tokenizer, config, tokenizer_from = read_tokenizer(folder, Section("text_cfg.", text_cfg), parsed.config)
    source = {
        "format": "open_clip folder",
        "activation_from": parsed.activation_from,
        "tokenizer_from": tokenizer_from,
        "preprocessing_from": CONFIG if preprocess_cfg else "open_clip's defaults",
    }
    return Checkpoint(config, {}, preprocessing, tokenizer, source, parsed.warnings)


def _read_weights(folder: Path, text_cfg: Mapping[str, Any], described: Checkpoint) -> Checkpoint:
    file = find_weights(folder, [*WEIGHTS, *_other_weights(folder)])
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
    own_tokenizer = not has_clips_tokenizer(bundle)
    model_cfg = to_model_cfg(own_config(bundle), bundle.id if own_tokenizer else None)
    network = load_network(bundle)
    with new_folder(folder) as draft:
        preprocess_cfg = pixels.to_openclip(bundle.preprocessing)
        write_object(draft / CONFIG, {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg})
        write_tensors(network.state_dict(), draft / WEIGHTS[0], FORMAT)
        if own_tokenizer:
            write_tokenizer(bundle, draft)
        (draft / README).write_text(readme(bundle, own_tokenizer), "utf-8")


def read_architecture(file: Path, options: Options) -> Options:
    """The options with the architecture, and the preprocessing if there is one, of an open_clip configuration.

    That of a hub folder, or one of those that come with open_clip. Raises CheckpointError for what we do not compute,
    and for a tokenizer of the model's own, which a file of weights does not bring.
    """
    content = read_object(file)
    with naming(file):
        parsed = read_model_cfg(content.get("model_cfg", content), Options(), model_name(file.with_suffix("")))
        name = content.get("model_cfg", content)["text_cfg"].get("hf_tokenizer_name")
        if name:
            raise CheckpointError(
                f"text_cfg.hf_tokenizer_name is {name!r:.100}, and files of weights have CLIP's tokenizer: put weights "
                f"and tokenizer into a folder with this file as {CONFIG}, and import that"
            )
        preprocess_cfg = _preprocess_cfg(content) or None
    return replace(options, architecture=parsed.config, preprocess_cfg=preprocess_cfg)


def _preprocess_cfg(content: Mapping[str, Any]) -> dict[str, Any]:
    cfg = content.get("preprocess_cfg") or {}
    if not isinstance(cfg, Mapping):
        raise CheckpointError(f"preprocess_cfg is a {type(cfg).__name__}, not an object")
    # open_clip itself goes by the size of the tower.
    return {key: value for key, value in cfg.items() if key != "size"}


def _other_weights(folder: Path) -> list[str]:
    """The one file that is likely to hold weights, if there is one of them."""
    others = [file.name for file in folder.iterdir() if file.suffix in (".safetensors", ".bin", ".pth", ".pt")]
    return others if len(others) == 1 else []
