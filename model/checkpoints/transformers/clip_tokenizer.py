"""The tokenizer files of transformers' CLIPTokenizer, read and written.

Its tokenizer.json differs from ours in how it cleans and splits, and control tokens in a text are control tokens there;
vocabulary and merges, which decide the ids, are in the same form in both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.folders import read_object, read_text, write_object
from model.config import TextConfig
from model.manifest import TOKENIZER
from model.tokenizers.clip import (
    CLIP_VOCAB_SIZE,
    END_OF_TEXT,
    END_OF_WORD,
    START_OF_TEXT,
    UNMERGED_IDS,
    Tokenizer,
    TokenizerError,
)

VOCABULARY, MERGES = "vocab.json", "merges.txt"
WITHOUT_FILES = "CLIP's, the folder has none"
# What tokenizers of other kinds leave in a folder.
_FOREIGN = ("vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
_NORMALIZERS = {"NFC", "Replace", "Strip", "Lowercase"}
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_CONTROLS = r"<\|startoftext\|>|<\|endoftext\|>|"
_SPLITS = (_WORDS, _CONTROLS + _WORDS, _CONTROLS.replace("\\", "") + _WORDS)
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


@dataclass(frozen=True)
class _Files:
    """The tokenizer files of a folder, parsed."""

    file: Path  # named in errors
    vocabulary: dict[str, int]
    merges: list[tuple[str, str]]
    rules: Mapping[str, Any]  # how tokenizer.json cleans and splits


def read_tokenizer(folder: Path, text: TextConfig) -> tuple[Tokenizer, str]:
    """The tokenizer of a folder for that text tower, and the file that it comes from.

    A folder without one has CLIP's, if the text tower has as many tokens. Raises CheckpointError naming what sets the
    folder's tokenizer apart from CLIP's.
    """
    if (folder / TOKENIZER).exists():
        files = _tokenizer_json(folder / TOKENIZER)
    elif (folder / VOCABULARY).exists() and (folder / MERGES).exists():
        files = _vocabulary_and_merges(folder)
    else:
        return _without_files(folder, text), WITHOUT_FILES
    if len(files.vocabulary) != text.vocab_size:
        raise CheckpointError(
            f"{files.file} has {len(files.vocabulary)} tokens, the text tower {text.vocab_size}: they belong to "
            "different models"
        )
    try:
        tokenizer = Tokenizer.from_vocabulary(files.vocabulary, files.merges, text.context_length)
    except TokenizerError as error:
        raise CheckpointError(f"{files.file} is not a tokenizer of CLIP's kind: {error}") from error
    if not _is_clips(tokenizer):
        _expect_known_rules(files)
    return tokenizer, files.file.name


def write_tokenizer(content: str, context_length: int, folder: Path) -> None:
    """Write the tokenizer.json of a bundle, `content`, as the files that transformers reads."""
    model = json.loads(content)["model"]
    vocabulary, merges = model["vocab"], model["merges"]
    eot, sot = len(vocabulary) - 1, len(vocabulary) - 2
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    cleaning: list[dict[str, Any]] = [
        {"type": "NFC"},
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        {"type": "Lowercase"},
    ]
    split = {"type": "Split", "pattern": {"Regex": _CONTROLS + _WORDS}, "behavior": "Removed", "invert": True}
    whole = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": sot, "content": START_OF_TEXT, **plain},
            {"id": eot, "content": END_OF_TEXT, **plain},
        ],
        "normalizer": {"type": "Sequence", "normalizers": cleaning},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, _BYTES]},
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [END_OF_TEXT, eot],
            "cls": [START_OF_TEXT, sot],
            "trim_offsets": False,
            "add_prefix_space": False,
        },
        "decoder": {**_BYTES, "add_prefix_space": True},
        "model": {**model, "unk_token": END_OF_TEXT, "continuing_subword_prefix": ""},
    }
    roles = {"bos_token": START_OF_TEXT, "eos_token": END_OF_TEXT, "pad_token": END_OF_TEXT, "unk_token": END_OF_TEXT}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": context_length, "do_lower_case": True}
    write_object(folder / TOKENIZER, whole)
    write_object(folder / "tokenizer_config.json", {**settings, "processor_class": "CLIPProcessor", **roles})
    write_object(folder / "special_tokens_map.json", roles)
    write_object(folder / VOCABULARY, dict(sorted(vocabulary.items(), key=lambda item: item[1])))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / MERGES).write_text("\n".join(lines) + "\n", "utf-8")


def _without_files(folder: Path, text: TextConfig) -> Tokenizer:
    foreign = [name for name in _FOREIGN if (folder / name).exists()]
    if foreign:
        raise CheckpointError(f"{folder / foreign[0]} is of another kind of tokenizer than CLIP's")
    if text.vocab_size != CLIP_VOCAB_SIZE:
        raise CheckpointError(
            f"{folder} has no {TOKENIZER}, nor {VOCABULARY} and {MERGES}, and a text tower of {text.vocab_size} tokens "
            f"has not CLIP's tokenizer, of {CLIP_VOCAB_SIZE}: add the file"
        )
    return Tokenizer.clip(text.vocab_size, text.context_length)


def _tokenizer_json(file: Path) -> _Files:
    content = read_object(file)
    model = content.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        kind = model.get("type") if isinstance(model, dict) else None
        raise CheckpointError(f"{file}: its model is {kind!r:.100}, not BPE as CLIP's")
    if model.get("end_of_word_suffix") != END_OF_WORD:
        raise CheckpointError(
            f"{file}: end_of_word_suffix is {model.get('end_of_word_suffix')!r:.100}, not {END_OF_WORD}"
        )
    # Each of these, where it is set, makes other ids of the same text.
    for key in ("dropout", "continuing_subword_prefix", "ignore_merges", "byte_fallback"):
        if model.get(key):
            raise CheckpointError(f"{file}: {key} is {model[key]!r:.100}, which CLIP's tokenizer has not")
    vocabulary = _vocabulary(model.get("vocab"), file)
    added = content.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        raise CheckpointError(f"{file}: added_tokens is not a list of tokens")
    for token in added:
        name, index = token.get("content"), token.get("id")
        if vocabulary.setdefault(str(name), index) != index:
            raise CheckpointError(
                f"{file}: {name!r:.100} is added as {index!r:.100}, and is {vocabulary[str(name)]} in the model"
            )
    return _Files(file, _vocabulary(vocabulary, file), _merges(model.get("merges"), file), content)


def _vocabulary_and_merges(folder: Path) -> _Files:
    vocabulary = _vocabulary(read_object(folder / VOCABULARY), folder / VOCABULARY)
    lines = read_text(folder / MERGES).split("\n")
    if lines[0].startswith("#version"):
        del lines[0]
    return _Files(folder / VOCABULARY, vocabulary, _merges([line for line in lines if line], folder / MERGES), {})


def _vocabulary(value: Any, file: Path) -> dict[str, int]:
    if not isinstance(value, dict) or not all(type(index) is int for index in value.values()):
        raise CheckpointError(f"{file}: its vocabulary is not an object of tokens with their ids")
    return value


def _merges(value: Any, file: Path) -> list[tuple[str, str]]:
    if not isinstance(value, list):
        raise CheckpointError(f"{file}: its merges are not a list")
    pairs = [entry.split(" ") if isinstance(entry, str) else entry for entry in value]
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise CheckpointError(f"{file}: {str(pair)[:100]} is not a merge of two tokens")
    return [(first, second) for first, second in pairs]


def _is_clips(tokenizer: Tokenizer) -> bool:
    size = tokenizer.vocab_size
    if not UNMERGED_IDS <= size <= CLIP_VOCAB_SIZE:
        return False
    return tokenizer.as_json == Tokenizer.clip(size, tokenizer.context_length).as_json


def _expect_known_rules(files: _Files) -> None:
    """Cleaning and splitting are ours. With CLIP's own vocabulary that is right, whatever an old file says of them."""
    if not files.rules:
        return
    cleaning = {str(part.get("type")) for part in _parts(files.rules.get("normalizer"), "normalizers")}
    strange = sorted(cleaning - _NORMALIZERS)
    if strange:
        raise CheckpointError(f"{files.file}: it cleans texts by {strange[0]}, which CLIP's tokenizer does not")
    if "Lowercase" not in cleaning:
        raise CheckpointError(f"{files.file}: it keeps capital letters, which CLIP's tokenizer does not")
    splits = [part for part in _parts(files.rules.get("pre_tokenizer"), "pretokenizers") if part.get("type") == "Split"]
    patterns = [part["pattern"].get("Regex") if isinstance(part.get("pattern"), dict) else None for part in splits]
    if len(patterns) != 1 or patterns[0] not in _SPLITS:
        raise CheckpointError(f"{files.file}: it splits texts by {str(patterns)[:200]}, not as CLIP's tokenizer does")


def _parts(value: Any, key: str) -> list[Mapping[str, Any]]:
    parts = value.get(key, [value]) if isinstance(value, dict) else []
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
