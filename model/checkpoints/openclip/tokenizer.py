"""The tokenizer of an open_clip folder: which one it means and whether it is one of ours, and writing ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from model.bundle import Bundle
from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.folders import write_object
from model.checkpoints.openclip.fields import Section
from model.checkpoints.transformers import clip_tokenizer, siglip_tokenizer
from model.config import ModelConfig, SiglipTextConfig, TextConfig
from model.manifest import TOKENIZER
from model.tokenizers.clip import CLIP_VOCAB_SIZE, END_OF_TEXT, START_OF_TEXT, TextTokenizer, Tokenizer


def read_tokenizer(folder: Path, cfg: Section, config: ModelConfig) -> tuple[TextTokenizer, ModelConfig, str]:
    """The tokenizer of a `text_cfg`, the configuration with what it adds, and where it comes from.

    Raises CheckpointError for one that is not of the text tower's kind.
    """
    name = cfg.get("hf_tokenizer_name")
    if isinstance(config.text, SiglipTextConfig):
        _expect_cleaning(cfg, "canonicalize")
        _expect_files(folder, name, TOKENIZER, siglip_tokenizer.SPIECE)
        tokenizer, text, file = siglip_tokenizer.read_tokenizer(folder, config.text, "openclip")
        return tokenizer, config.model_copy(update={"text": text}), file
    assert isinstance(config.text, TextConfig)
    if not name:
        return _clips(cfg, config.text), config, "CLIP's, the configuration names no other"
    # By default, small letters are left to the tokenizer, and any of CLIP's kind makes them.
    _expect_cleaning(cfg, "lower", "whitespace", None)
    _expect_files(folder, name, TOKENIZER, clip_tokenizer.VOCABULARY)
    clips, file = clip_tokenizer.read_tokenizer(folder, config.text)
    return clips, config, file


def has_clips_tokenizer(bundle: Bundle) -> bool:
    """Whether a bundle's tokenizer is the one that open_clip takes where a folder names none."""
    if bundle.manifest.config.text.vocab_size != CLIP_VOCAB_SIZE:
        return False
    clips = json.loads(Tokenizer.clip().as_json)
    return bool(json.loads(bundle.read(TOKENIZER))["model"] == clips["model"])


def write_tokenizer(bundle: Bundle, folder: Path) -> None:
    """Write a bundle's tokenizer as the files that transformers, which open_clip asks for it, reads."""
    content = json.loads(bundle.read(TOKENIZER))
    # open_clip has cleaned the text exactly by then; composing characters once more would change what entities spell.
    cleaning = content["normalizer"]["normalizers"]
    content["normalizer"]["normalizers"] = [step for step in cleaning if step["type"] != "NFC"]
    write_object(folder / TOKENIZER, content)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": bundle.context_length,
        "bos_token": START_OF_TEXT,
        "eos_token": END_OF_TEXT,
        # After the end of the text nothing is looked at, so that its mark can fill the rest of a row.
        "pad_token": END_OF_TEXT,
    }
    write_object(folder / "tokenizer_config.json", settings)


def _clips(cfg: Section, text: TextConfig) -> Tokenizer:
    """What open_clip takes where no tokenizer is named, whatever files the folder has."""
    _expect_cleaning(cfg, "lower", None)
    if text.vocab_size != CLIP_VOCAB_SIZE:
        raise cfg.refused("vocab_size", text.vocab_size, f"CLIP's tokenizer has {CLIP_VOCAB_SIZE} tokens")
    return Tokenizer.clip(text.vocab_size, text.context_length)


def _expect_cleaning(cfg: Section, *known: str | None) -> None:
    arguments = cfg.get("tokenizer_kwargs") or {}
    if not isinstance(arguments, Mapping) or set(arguments) - {"clean"} or arguments.get("clean") not in known:
        raise cfg.refused("tokenizer_kwargs", arguments, "no tokenizer that we have treats texts so")


def _expect_files(folder: Path, name: object, *files: str) -> None:
    if not any((folder / file).exists() for file in files):
        raise CheckpointError(
            f"text_cfg.hf_tokenizer_name is {name!r:.200}, and {folder} has no {' or '.join(files)}: "
            "put the tokenizer of that name into it"
        )
