"""Folders of sentence-transformers: which model of transformers is inside, and what surrounds it.

That may be a dual encoder, whose vectors a module Normalize gives unit length, or a language model, which embeds texts
alone, with a module that pools its outputs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.folders import read_json, read_object
from model.pretrained_text import Pooling

MODULES, CLIP_FOLDER = "modules.json", "0_CLIPModel"
_SETTINGS, _PROMPTS = "sentence_bert_config.json", "config_sentence_transformers.json"
_OURS = "sentence_transformers."  # before the names of its own modules; others are code of a model's own
_MODELS = ("CLIPModel", "Transformer")
_NORMALIZE = "Normalize"
_MAX_MODULES = 32
_POOLINGS: dict[str, Pooling] = {
    "mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls", "max": "max", "max_tokens": "max",
}  # fmt: skip
_TEXTS_ALONE = (
    "it embeds texts alone ({}), for the pictures of another model, and a bundle has both towers. For CLIP's pictures "
    "and English texts take sentence-transformers/clip-ViT-B-32; for texts in many languages, in a space of its own, "
    "xlm-roberta-base-ViT-B-32:laion5b_s13b_b90k"
)


@dataclass(frozen=True)
class InnerModel:
    """A model of transformers inside such a folder."""

    folder: Path
    warnings: tuple[str, ...]


def find_model(folder: Path) -> InnerModel | None:
    """The dual encoder in a folder, or None for a folder that is not of sentence-transformers, or runs code of its own.

    Raises CheckpointError for models of texts alone, and for modules that change the vectors of the dual encoder.
    """
    modules = _read_modules(folder)
    if not modules or not modules[0][0].startswith(_OURS):
        return None
    (first, path), *others = modules
    inner, kind = folder / path, first.rpartition(".")[2]
    names = [module.rpartition(".")[2] for module, _ in modules]
    if kind not in _MODELS:
        raise CheckpointError(f"{folder / MODULES} begins with {kind:.100}: it must be {' or '.join(_MODELS)}")
    content = read_object(inner / "config.json")
    if not {"vision_config", "image_config", "vision_config_dict"} & set(content):
        what = f"{str(content.get('model_type'))[:50]} with {', '.join(names)[:200]}"
        raise CheckpointError(f"{folder / MODULES}: {_TEXTS_ALONE.format(what)}")
    changing = [name for (module, _), name in zip(others, names[1:], strict=True) if name != _NORMALIZE]
    if changing:
        raise CheckpointError(
            f"{folder / MODULES} has {changing[0]:.100} behind the model, which changes its vectors: only {_NORMALIZE} "
            f"may follow. The model without it: name {inner if path else 'a folder without ' + MODULES}"
        )
    _check_methods(inner / _SETTINGS)
    return InnerModel(inner, tuple(_warnings(folder, is_normalised=_NORMALIZE in names)))


@dataclass(frozen=True)
class SentenceEncoder:
    """A language model inside such a folder, how its outputs are pooled, and the most tokens of a text."""

    folder: Path
    pooling: Pooling
    max_tokens: int | None
    lowers: bool  # texts get small letters before the tokenizer
    warnings: tuple[str, ...]


def find_sentence_encoder(folder: Path) -> SentenceEncoder | None:
    """The language model in a folder, or None for a folder that is not of sentence-transformers.

    Raises CheckpointError for one without a language model, and for a pooling that is not ours.
    """
    modules = _read_modules(folder)
    if not modules:
        return None
    kinds = [module.rpartition(".")[2] for module, _ in modules]
    if kinds[0] != "Transformer" or "Pooling" not in kinds[1:2]:
        raise CheckpointError(
            f"{folder / MODULES} has {', '.join(kinds)[:200]}: Transformer and Pooling must come first"
        )
    inner, file = folder / modules[0][1], folder / modules[1][1] / "config.json"
    settings = read_object(inner / _SETTINGS) if (inner / _SETTINGS).exists() else {}
    most = settings.get("max_seq_length")
    if most is not None and (not isinstance(most, int) or most < 1):
        raise CheckpointError(f"{inner / _SETTINGS}: max_seq_length is {most!r:.50}: it must be a number of tokens")
    warnings = _prompt_warnings(folder)
    if left_out := [kind for kind in kinds[2:] if kind != _NORMALIZE]:
        warnings.append(
            f"{MODULES} has {', '.join(left_out)[:200]} behind the pooling, in whose place the new layers are"
        )
    return SentenceEncoder(inner, _pooling(file), most, settings.get("do_lower_case") is True, tuple(warnings))


def _pooling(file: Path) -> Pooling:
    """The one way that a module Pooling has."""
    content = read_object(file)
    named = content.get("pooling_mode")
    chosen = [named] if named is not None else [
        key.removeprefix("pooling_mode_") for key, value in content.items() if key.startswith("pooling_mode_") and value
    ]  # fmt: skip
    pooling = _POOLINGS.get(str(chosen[0])) if len(chosen) == 1 else None
    if pooling is None:
        raise CheckpointError(
            f"{file} pools by {', '.join(map(str, chosen))[:200] or 'nothing'}: it must be one of mean, cls and max"
        )
    return pooling


def _read_modules(folder: Path) -> list[tuple[str, str]]:
    """Class and folder of each module; of folders from before there was a list of them, those of CLIP."""
    file = folder / MODULES
    if not file.exists():
        return [(f"{_OURS}models.CLIPModel", CLIP_FOLDER)] if (folder / CLIP_FOLDER).is_dir() else []
    content = read_json(file)
    if not isinstance(content, list) or len(content) > _MAX_MODULES:
        raise CheckpointError(f"{file} is not a list of modules")
    modules = []
    for module in content:
        kind, path = (module.get("type"), module.get("path")) if isinstance(module, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(path, str) or not re.fullmatch(r"(?!\.)[\w.-]{0,100}", path):
            raise CheckpointError(f"{file}: {str(module)[:100]} has no type, or no path inside the folder")
        modules.append((kind, path))
    return modules


def _check_methods(file: Path) -> None:
    """Newer releases may call other methods of the model."""
    methods = read_object(file).get("modality_config") if file.exists() else None
    if methods is None:
        return
    for modality, method in (("text", "get_text_features"), ("image", "get_image_features")):
        entry = methods.get(modality) if isinstance(methods, Mapping) else None
        found = entry.get("method") if isinstance(entry, Mapping) else None
        if found != method:
            raise CheckpointError(f"{file}: modality_config has {str(found)[:100]} for {modality}: it must be {method}")


def _warnings(folder: Path, *, is_normalised: bool) -> list[str]:
    found = []
    if not is_normalised:
        found.append(
            f"{MODULES} has no {_NORMALIZE}: sentence-transformers gives vectors of other lengths, here they are of "
            "unit length; cosines are the same"
        )
    return found + _prompt_warnings(folder)


def _prompt_warnings(folder: Path) -> list[str]:
    settings: dict[str, Any] = read_object(folder / _PROMPTS) if (folder / _PROMPTS).exists() else {}
    name, prompts = settings.get("default_prompt_name"), settings.get("prompts")
    prompt = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else None
    if not prompt:
        return []
    return [f"sentence-transformers puts {str(prompt)[:100]!r} before each text, here whoever asks must do so"]
