"""The tokenizer files of SigLIP folders, read and written: `spiece.model`, or a `tokenizer.json` as SigLIP 2 has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.folders import read_object, read_text, write_object
from model.checkpoints.transformers.spiece import read_model
from model.config import SiglipTextConfig
from model.manifest import TOKENIZER
from model.tokenizers.clip import TokenizerError
from model.tokenizers.sentencepiece import SentenceTokenizer
from model.tokenizers.vocabulary import Clean, Vocabulary, VocabularyError, read_vocabulary

SPIECE = "spiece.model"
SETTINGS = "tokenizer_config.json"
MAX_SPIECE_BYTES = 32 * 1024**2  # that of a million pieces has less
# What transformers takes where the settings do not say; the classes for SigLIP 2 are made from Gemma's.
_ROLES = {"unigram": {"eos_token": "</s>", "pad_token": "</s>"}, "bpe": {"eos_token": "<eos>", "pad_token": "<pad>"}}
_PADS_LEFT = ("GemmaTokenizer", "Siglip2Tokenizer")


def read_tokenizer(
    folder: Path, text: SiglipTextConfig, clean: Clean | None = None
) -> tuple[SentenceTokenizer, SiglipTextConfig, str]:
    """The tokenizer of a folder, `text` with what it says of ends, padding and cleaning, and the file it comes from.

    `clean` is what the source does to texts, where that is not left to the tokenizer. Raises CheckpointError.
    """
    settings = read_object(folder / SETTINGS) if (folder / SETTINGS).exists() else {}
    file = folder / (SPIECE if (folder / SPIECE).exists() else TOKENIZER)
    if not file.exists():
        raise CheckpointError(f"{folder} has neither {SPIECE} nor {TOKENIZER}: add the tokenizer that the model has")
    try:
        vocabulary, cleaning, ends = _read_spiece(file, text) if file.name == SPIECE else _read_json(file)
    except (CheckpointError, VocabularyError) as error:
        raise CheckpointError(f"{file}: {error}") from error
    fields = {**_siglips(settings, vocabulary, ends, folder / SETTINGS), "clean": clean or cleaning}
    try:
        configured = SiglipTextConfig.model_validate({**text.model_dump(), **fields})
        tokenizer = SentenceTokenizer(vocabulary, configured)
    except ValidationError as error:
        raise CheckpointError(f"{file}: {error.errors()[0]['msg']}") from error
    except TokenizerError as error:
        raise CheckpointError(f"{file}: {error}") from error
    if tokenizer.vocab_size > text.vocab_size:
        raise CheckpointError(
            f"{file} has {tokenizer.vocab_size} tokens, the text tower only {text.vocab_size}: they belong to "
            "different models"
        )
    return tokenizer, configured, file.name


def write_tokenizer(content: str, text: SiglipTextConfig, folder: Path) -> None:
    """Write the tokenizer.json of a bundle, `content`, and the settings with which transformers reads it."""
    pieces = {index: piece for piece, index in read_vocabulary(content).ids.items()}
    roles = {"eos_token": pieces[text.eos_id], "pad_token": pieces[text.pad_id]}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": text.context_length,
        "padding_side": "right",
        # SigLIP reads its padding: a mask would hide it.
        "model_input_names": ["input_ids"],
        "processor_class": "SiglipProcessor",
    }
    (folder / TOKENIZER).write_text(content, "utf-8")
    write_object(folder / SETTINGS, settings | roles)


def _read_spiece(file: Path, text: SiglipTextConfig) -> tuple[Vocabulary, Clean, bool]:
    try:
        if file.stat().st_size > MAX_SPIECE_BYTES:
            raise CheckpointError(f"it is larger than {MAX_SPIECE_BYTES >> 20} MiB: it is not what its name says")
        return read_model(file.read_bytes(), text.vocab_size), "canonicalize", True
    except OSError as error:
        raise CheckpointError(f"it cannot be read: {error}") from error


def _read_json(file: Path) -> tuple[Vocabulary, Clean, bool]:
    """The vocabulary, how texts are cleaned, and whether something ends them.

    SigLIP 2 keeps punctuation, SigLIP does not; open_clip, which drops it for both, parts words at underscores.
    """
    content = read_text(file)
    vocabulary, whole = read_vocabulary(content), json.loads(content)
    clean: Clean = "canonicalize" if vocabulary.kind == "unigram" else "lower"
    if {"String": "_"} in _patterns(whole.get("normalizer")):
        clean = "openclip"
    return vocabulary, clean, vocabulary.kind == "unigram" or _ends_only(whole.get("post_processor"))


def _ends_only(template: Any) -> bool:
    """Whether a control token is written after each text, and none before it."""
    parts = template.get("single") if isinstance(template, dict) else None
    kinds = [list(part) if isinstance(part, dict) else part for part in parts] if isinstance(parts, list) else []
    return kinds == [["Sequence"], ["SpecialToken"]]


def _patterns(normalizer: Any) -> list[Any]:
    parts = normalizer.get("normalizers", []) if isinstance(normalizer, dict) else []
    return [part.get("pattern") for part in parts if isinstance(part, dict)]


def _siglips(settings: Mapping[str, Any], vocabulary: Vocabulary, ends: bool, file: Path) -> dict[str, int]:
    """The ids of what ends and what fills a text.

    Texts must end with the one and be padded with the other on the right: so the published models were trained.
    """
    if settings.get("do_lower_case") is False:
        raise CheckpointError(f"{file} says do_lower_case false: SigLIP's texts are in small letters")
    name = str(settings.get("tokenizer_class", "")).removesuffix("Fast")
    side = settings.get("padding_side") or ("left" if name in _PADS_LEFT else "right")
    if side != "right":
        raise CheckpointError(
            f"{file} pads texts on the {side}, and published models are trained with padding on the right: write "
            '"padding_side": "right" into it if this model was, too'
        )
    if not settings.get("add_eos_token", ends) or settings.get("add_bos_token"):
        raise CheckpointError(
            f'{file} does not end texts with eos_token, or begins them: write "add_eos_token": true and '
            '"add_bos_token": false into it if the model was trained so'
        )
    found = {}
    for role, default in _ROLES[vocabulary.kind].items():
        token = settings.get(role) or default
        name = str(token.get("content") if isinstance(token, dict) else token)
        if name not in vocabulary.ids:
            raise CheckpointError(f"{file} has {name[:100]!r} as {role}, which is no piece of the tokenizer")
        found[role.replace("token", "id")] = vocabulary.ids[name]
    return found
