"""Which tokenizer an open_clip folder means, and whether it is one of ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.openclip.fields import Section
from model.checkpoints.transformers import clip_tokenizer, siglip_tokenizer
from model.config import ModelConfig, SiglipTextConfig, TextConfig
from model.manifest import TOKENIZER
from model.tokenizers.clip import CLIP_VOCAB_SIZE, TextTokenizer, Tokenizer


def read_tokenizer(folder: Path, cfg: Section, config: ModelConfig) -> tuple[TextTokenizer, ModelConfig, str]:
    """The tokenizer of a `text_cfg`, the configuration with what it adds, and where it was told from.

    Raises CheckpointError for one that is not of the text tower's kind.
    """
    name = cfg.get("hf_tokenizer_name")
    if isinstance(config.text, SiglipTextConfig):
        _expect_cleaning(cfg, "canonicalize")
        _expect_files(folder, name, TOKENIZER, siglip_tokenizer.SPIECE)
        tokenizer, text, file = siglip_tokenizer.read_tokenizer(folder, config.text, "openclip")
        return tokenizer, config.model_copy(update={"text": text}), file
    if not name:
        return _clips(cfg, config.text), config, "CLIP's, the configuration names no other"
    # By default, small letters are left to the tokenizer, and any of CLIP's kind makes them.
    _expect_cleaning(cfg, "lower", "whitespace", None)
    _expect_files(folder, name, TOKENIZER, clip_tokenizer.VOCABULARY)
    clips, file = clip_tokenizer.read_tokenizer(folder, config.text)
    return clips, config, file


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
