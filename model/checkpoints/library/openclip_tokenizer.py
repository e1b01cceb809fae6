"""The tokenizer that open_clip takes for a `text_cfg`: what its HFTokenizer does before and after transformers' own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from tokenizers import processors

from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.library.tokenizer import (
    FolderTokenizer,
    expect_same_ids,
    load_hf_tokenizer,
    longest,
    pad_id,
    run_once,
    unknown_ends,
)
from model.library_config import TextCleaning
from model.tokenizers.clip import PADDING_ID, Tokenizer

KWARGS = "text_cfg.tokenizer_kwargs"
STRIPPED_ID = 0  # what separators become
# Arguments of transformers' tokenizers.
SETTINGS = frozenset((
    "add_bos_token", "add_eos_token", "add_prefix_space", "do_lower_case", "strip_accents", "tokenize_chinese_chars",
    "keep_accents", "legacy", "legacy_behaviour", "src_lang", "tgt_lang", "padding_side", "truncation_side",
    "model_max_length", "extra_ids", "use_fast", "bos_token", "eos_token", "sep_token", "cls_token", "unk_token",
    "pad_token", "mask_token",
))  # fmt: skip
# CLIP's splitter for texts in any case; here alone are they not in small letters.
_ANY_CASE = "(?i:'[s\u017f]|'t|'re|'ve|'m|'ll|'d)|\\p{L}+|\\p{N}|[^\\s\\p{L}\\p{N}\u0345]+"


def read_openclip_tokenizer(folder: Path, text_cfg: Mapping[str, Any]) -> FolderTokenizer:
    """The tokenizer of a hub folder's `text_cfg`, or of the files in `folder` for an architecture.

    Raises CheckpointError naming the file or the field that is missing, refused or not understood.
    """
    arguments = text_cfg.get("tokenizer_kwargs") or {}
    if not isinstance(arguments, Mapping):
        raise CheckpointError(f"{KWARGS} is {arguments!r:.100}, not an object")
    arguments = dict(arguments)
    if not text_cfg.get("hf_tokenizer_name"):
        return _simple(arguments)
    clean = _clean(arguments.pop("clean", "whitespace"))
    strip, language = arguments.pop("strip_sep_token", False), arguments.pop("language", None)
    arguments.pop("cache_dir", None)
    for name, value in arguments.items():
        if name not in SETTINGS or not isinstance(value, str | int | bool | None):
            raise CheckpointError(f"{KWARGS} has {name} {value!r:.100}, which is not known")
    try:
        theirs, source = load_hf_tokenizer(folder, arguments)
    except CheckpointError as error:
        raise CheckpointError(
            f"text_cfg.hf_tokenizer_name is {text_cfg['hf_tokenizer_name']!r:.200}: {error}"
        ) from error
    warnings = (*_set_language(theirs, language, folder), *unknown_ends(theirs, folder))
    mode = text_cfg.get("tokenizer_mode") or ""
    if mode == "clips":
        return _clips(theirs, clean, source, warnings, folder)
    if mode:
        raise CheckpointError(f"text_cfg.tokenizer_mode is {mode!r:.100}: open_clip has clips, or none")
    content, filler = run_once(theirs, folder), pad_id(theirs, folder)
    separator = theirs.sep_token_id if strip else None
    if separator is not None:
        content = _stripped(content, separator)
        filler = STRIPPED_ID if filler == separator else filler
    # No text spells a separator: in a row it is what the post-processor has written.
    expect_same_ids(theirs, content, clean, folder, lambda row: [STRIPPED_ID if i == separator else i for i in row])
    return FolderTokenizer(content, "hugging_face", filler, clean, source, longest(theirs), None, warnings)


def _simple(arguments: dict[str, Any]) -> FolderTokenizer:
    """open_clip's SimpleTokenizer: CLIP's, cleaned in other ways if need be."""
    clean = _clean(arguments.pop("clean", "lower"))
    warnings = []
    if mask := arguments.pop("reduction_mask", ""):
        warnings.append(
            f"{KWARGS} has reduction_mask {mask!r:.40}, as in training: long texts are cut at their end here"
        )
    if tokens := arguments.pop("additional_special_tokens", None):
        warnings.append(f"{KWARGS} has additional_special_tokens {tokens!r:.100}: in a text they are plain characters")
    for name, value in arguments.items():
        raise CheckpointError(f"{KWARGS} has {name} {value!r:.100}, which is not known")
    content = Tokenizer.clip().as_json
    source = "CLIP's, the configuration names no other"
    if clean == "lower":
        return FolderTokenizer(content, "clip", PADDING_ID, "none", source, warnings=tuple(warnings))
    file = json.loads(content)
    file["normalizer"] = None
    file["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": _ANY_CASE}
    content = json.dumps(file, ensure_ascii=False)
    return FolderTokenizer(content, "hugging_face", PADDING_ID, clean, source, warnings=tuple(warnings))


def _clean(name: Any) -> TextCleaning:
    """open_clip has names for all kinds of cleaning but for none."""
    if name not in get_args(TextCleaning) or name == "none":
        raise CheckpointError(f"{KWARGS} has clean {name!r:.100}: open_clip has whitespace, lower and canonicalize")
    known: TextCleaning = name
    return known


def _set_language(theirs: Any, language: Any, folder: Path) -> tuple[str, ...]:
    """As open_clip does; what becomes of it is seen when the tokenizer is run."""
    if language is None:
        return ()
    code = theirs.convert_tokens_to_ids(language) if isinstance(language, str) else None
    if code is None or code == theirs.unk_token_id:
        raise CheckpointError(f"{KWARGS} has language {language!r:.40}, which is no token of the tokenizer in {folder}")
    if not callable(getattr(theirs, "set_src_lang_special_tokens", None)):
        return (
            f"{KWARGS} has language {language!r:.40}, and {type(theirs).__name__} has no languages: it is passed over",
        )
    theirs.set_src_lang_special_tokens(language)
    used = getattr(theirs, "src_lang", language)
    if used == language:
        return ()
    # transformers sets the language anew with each call, to its own src_lang.
    return (f"{KWARGS} has language {language!r:.40}, and transformers marks texts with src_lang, {used}: so here",)


def _stripped(content: str, separator: int) -> str:
    """The tokenizer.json whose post-processor writes zeros where it wrote separators."""
    file = json.loads(content)
    steps = [file["post_processor"] or {"type": ""}]
    for step in steps:
        if step["type"] == "Sequence":
            steps += step["processors"]
        elif step["type"] == "TemplateProcessing":
            for token in step["special_tokens"].values():
                token["ids"] = [STRIPPED_ID if index == separator else index for index in token["ids"]]
        elif step["type"] in ("BertProcessing", "RobertaProcessing"):
            for name in ("sep", "cls"):
                token, index = step[name]
                step[name] = [token, STRIPPED_ID if index == separator else index]
    return json.dumps(file, ensure_ascii=False)


def _clips(theirs: Any, clean: TextCleaning, source: str, warnings: tuple[str, ...], folder: Path) -> FolderTokenizer:
    """Begin, text, end, padding, and in the last place of the context the class token, which is the network's part."""
    run_once(theirs, folder)
    names = {"bos_token": theirs.bos_token, "eos_token": theirs.eos_token, "cls_token": theirs.cls_token}
    ids = {name: theirs.convert_tokens_to_ids(token) if token else None for name, token in names.items()}
    for name, index in ids.items():
        if index is None:
            raise CheckpointError(f"text_cfg.tokenizer_mode is 'clips', and the tokenizer in {folder} has no {name}")
    begin, end = (names["bos_token"], ids["bos_token"]), (names["eos_token"], ids["eos_token"])
    theirs.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=[begin[0], "$A", end[0]], special_tokens=list(dict.fromkeys([begin, end]))
    )
    content = theirs.backend_tokenizer.to_str()
    expect_same_ids(theirs, content, clean, folder)
    return FolderTokenizer(
        content, "hugging_face", pad_id(theirs, folder), clean, source, longest(theirs), ids["cls_token"], warnings
    )
