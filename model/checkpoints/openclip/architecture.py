"""Architectures of open_clip for files of weights, which name none: by its names, and from JSON files."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.checkpoints.checkpoint import CheckpointError, LibraryArchitecture, LibraryCheckpoint, Options, naming
from model.checkpoints.folders import model_name, read_object
from model.checkpoints.library import open_clip
from model.checkpoints.openclip.config import CONFIG, read_model_cfg
from model.checkpoints.openclip.pretrained import preprocess_cfg
from model.suggestions import did_you_mean

_AS_PUBLISHED = "as open_clip's pretrained models of this architecture have them"


def read_architecture(file: Path, options: Options) -> Options:
    """The options with the architecture, and the preprocessing if there is one, of an open_clip configuration.

    That of a hub folder, or one of those that come with open_clip. Raises CheckpointError for a tokenizer of the
    model's own that nobody names, which a file of weights does not bring.
    """
    content = read_object(file)
    with naming(file):
        return _with_architecture(
            content.get("model_cfg", content),
            model_name(file.with_suffix("")),
            replace(options, preprocess_cfg=as_preprocess_cfg(content) or None),
        )


def named_architecture(name: str, others: list[str], options: Options) -> Options:
    """The options with the architecture that open_clip has by that name.

    `others` are names that mean something, too. Raises CheckpointError for one that neither is.
    """
    configs = _model_configs()
    file = next((file for file in configs if file.stem == name.replace("/", "-")), None)
    if file is None:
        known = [*others, *architecture_names()]
        near = did_you_mean(name, known) or f"known are {', '.join(others)}"
        more = "" if configs else ", and with the extra convert-all all of open_clip's configurations"
        raise CheckpointError(
            f"there is no architecture {name!r:.200}: {near}{more}; or name the JSON file of an open_clip configuration"
        )
    with naming(file):
        return _with_architecture(read_object(file), file.stem, options)


def read_by_architecture(file: Path, architecture: LibraryArchitecture, options: Options) -> LibraryCheckpoint:
    """A training checkpoint or a file of weights of an architecture that open_clip builds. Raises CheckpointError."""
    cfg, said_by = options.preprocess_cfg, CONFIG
    if cfg is None:
        cfg, said_by = preprocess_cfg(architecture.name, file.stem), "open_clip's list of pretrained models"
    beside = options.tokenizer or file.parent
    checkpoint = open_clip.read(architecture, file, beside, cfg, options, model_name(file.with_suffix("")))
    checkpoint.source.update(format="open_clip weights", preprocessing_from=said_by if cfg else "open_clip's defaults")
    if cfg and options.preprocess_cfg is None:
        checkpoint.warnings.append(f"nothing says how pictures were prepared: size, mean and so on {_AS_PUBLISHED}")
    return checkpoint


def as_preprocess_cfg(content: Mapping[str, Any]) -> dict[str, Any]:
    """The `preprocess_cfg` in the content of an open_clip configuration. Raises CheckpointError."""
    cfg = content.get("preprocess_cfg") or {}
    if not isinstance(cfg, Mapping):
        raise CheckpointError(f"preprocess_cfg is a {type(cfg).__name__}, not an object")
    # open_clip itself goes by the size of the tower.
    return {key: value for key, value in cfg.items() if key != "size"}


def _with_architecture(cfg: Any, name: str, options: Options) -> Options:
    """Ours where we have the network and CLIP's tokenizer is its, else open_clip's."""
    text_cfg = cfg.get("text_cfg") if isinstance(cfg, Mapping) else None
    tokenizer = text_cfg.get("hf_tokenizer_name") if isinstance(text_cfg, Mapping) else None
    if tokenizer and options.tokenizer is None:
        raise CheckpointError(
            f"text_cfg.hf_tokenizer_name is {tokenizer!r:.100}, and files of weights have CLIP's tokenizer: name the "
            "folder of that one with --tokenizer, or put weights and tokenizer into a folder with this file as "
            f"{CONFIG}, and import that"
        )
    try:
        parsed = read_model_cfg(cfg, Options(), name)
        if not tokenizer:
            return replace(options, architecture=parsed.config)
        refusal = f"a file of weights with the tokenizer {tokenizer!r:.100} is not read by us"
    except CheckpointError as error:
        if not isinstance(text_cfg, Mapping):
            raise
        refusal = str(error)
    return replace(options, library_architecture=LibraryArchitecture(name, cfg, refusal))


def architecture_names() -> list[str]:
    """The names that open_clip has for its architectures; none where it is not installed."""
    return [file.stem for file in _model_configs()]


def name_of(model_cfg: Mapping[str, Any]) -> str | None:
    """The name that open_clip has for a `model_cfg`, where it is one of its own."""
    for file in _model_configs():
        content = read_object(file)
        if all(content.get(field) == model_cfg.get(field) for field in content.keys() | model_cfg.keys()):
            return file.stem
    return None


def _model_configs() -> list[Path]:
    """The configurations that come with open_clip, which is not imported for that; none where it is not installed."""
    found = None
    with suppress(ImportError, ValueError):  # of an installation that is broken
        found = importlib.util.find_spec("open_clip")
    places = [] if found is None else list(found.submodule_search_locations or [])
    return sorted(file for place in places for file in (Path(place) / "model_configs").glob("*.json"))
