"""The tokenizer.json beside an exported text tower, and the token that fills rows up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from model import smoke_inputs
from model.checkpoints.checkpoint import CheckpointError, naming
from model.checkpoints.folders import read_object, read_text
from model.checkpoints.transformers import clip_tokenizer
from model.config import TextConfig
from model.library_config import LibraryTextConfig, TextCleaning
from model.manifest import TOKENIZER
from model.tokenizers.clip import END_OF_WORD, TextTokenizer, Tokenizer, TokenizerError
from model.tokenizers.fast import FastTokenizer

SETTINGS = "tokenizer_config.json"
MANY_TOKENS = 512
NO_MAXIMUM = 10**9  # what transformers writes for a tokenizer without a longest text is far beyond


@dataclass(frozen=True)
class ExportTokenizer:
    """A tokenizer, and the configuration of the text tower that gets its rows."""

    tokenizer: TextTokenizer
    text: LibraryTextConfig
    ends_with_pad: bool  # the token that ends a text is what fills rows up

    @property
    def compared_length(self) -> int:
        """Tokens that rows are padded to where an export is tried: attention takes the square of them."""
        if self.text.fixed_length:
            return self.text.context_length
        longest_row = len(smoke_inputs.token_rows(self.tokenizer)[-1])
        return min(self.text.context_length, max(MANY_TOKENS, longest_row))

    @property
    def source(self) -> str:
        """Whose it is, for people."""
        return f"{TOKENIZER}, {'the vocabulary of CLIP' if self.text.tokenizer == 'clip' else 'as it is'}"


def settings_of(folder: Path) -> dict[str, Any]:
    """What tokenizer_config.json says; nothing where there is none."""
    return read_object(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}


def longest(settings: Mapping[str, Any]) -> int | None:
    """Tokens of the longest text, where the settings say it."""
    number = settings.get("model_max_length")
    return number if type(number) is int and 2 < number < NO_MAXIMUM else None


def cleaning(text_cfg: Mapping[str, Any]) -> TextCleaning:
    """What open_clip does to a text before a tokenizer of transformers gets it. Raises CheckpointError."""
    arguments = text_cfg.get("tokenizer_kwargs") or {}
    clean = arguments.get("clean", "whitespace") if isinstance(arguments, Mapping) else arguments
    if clean not in get_args(TextCleaning):
        raise CheckpointError(f"text_cfg.tokenizer_kwargs is {arguments!r:.100}, whose way to clean texts is not known")
    known: TextCleaning = clean
    return known


def read_export_tokenizer(
    folder: Path, context_length: int, rows: int | None, clean: TextCleaning, fixed_length: bool, fallback: int | None
) -> ExportTokenizer:
    """The tokenizer in `folder` for a tower of that context and as many embedding `rows`, where they are known.

    `fallback` is what fills rows up where the folder does not say. Raises CheckpointError.
    """
    file = folder / TOKENIZER
    content, parsed = read_text(file), read_object(file)
    clips = _clips(folder, parsed, context_length)
    with naming(file):
        pad_id = _pad_id(parsed, settings_of(folder), fallback)
        try:
            # An embedding whose rows were not found has as many as the tokenizer needs, which its graph checks.
            vocab_size = rows or (clips.vocab_size if clips else _largest_id(content, context_length) + 1)
            text = LibraryTextConfig(
                context_length=context_length,
                vocab_size=vocab_size,
                pad_id=pad_id,
                fixed_length=fixed_length,
                tokenizer="clip" if clips else "hugging_face",
                clean="none" if clips else clean,
            )
            tokenizer: TextTokenizer = (
                Tokenizer.parse(clips.as_json, context_length, pad_id, fixed_length)
                if clips
                else FastTokenizer.parse(content, text)
            )
            if tokenizer.vocab_size > vocab_size:
                raise CheckpointError(f"it has {tokenizer.vocab_size} tokens, the text tower {vocab_size}")
            [nothing] = tokenizer.encode([""])
        except TokenizerError as error:
            raise CheckpointError(str(error)) from error
        except ValueError as error:  # of pydantic
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"it does not fit its text tower: {error}") from error
    return ExportTokenizer(tokenizer, text, ends_with_pad=nothing[-1:] == [pad_id])


def _clips(folder: Path, parsed: Mapping[str, Any], context_length: int) -> Tokenizer | None:
    """Ours, where the file has CLIP's vocabulary or one of its kind: it cleans texts as CLIP does."""
    model = parsed.get("model")
    if not isinstance(model, dict) or model.get("end_of_word_suffix") != END_OF_WORD:
        return None
    size = len(model.get("vocab") or ())
    try:
        text = TextConfig(width=64, layers=1, heads=1, context_length=context_length, vocab_size=size)
        return clip_tokenizer.read_tokenizer(folder, text)[0]
    except (CheckpointError, ValueError):  # of another kind, which its file describes completely
        return None


def _pad_id(parsed: Mapping[str, Any], settings: Mapping[str, Any], fallback: int | None) -> int:
    named = settings.get("pad_token")
    token = named.get("content") if isinstance(named, dict) else named
    padding = parsed.get("padding")
    for candidate in (
        _id_of(token, parsed) if isinstance(token, str) else None,
        padding.get("pad_id") if isinstance(padding, dict) else None,
        fallback,
    ):
        if type(candidate) is int and candidate >= 0:
            return candidate
    raise CheckpointError(f"neither it nor {SETTINGS} names a pad_token, which fills rows up")


def _id_of(token: str, parsed: Mapping[str, Any]) -> int | None:
    for entry in parsed.get("added_tokens") or ():
        if isinstance(entry, dict) and entry.get("content") == token:
            return entry.get("id")
    model = parsed.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, dict):
        return vocabulary.get(token)
    names = [entry[0] if isinstance(entry, list) and entry else None for entry in vocabulary or ()]
    return names.index(token) if token in names else None


def _largest_id(content: str, context_length: int) -> int:
    text = LibraryTextConfig(
        context_length=context_length, vocab_size=2_000_000, pad_id=0, fixed_length=False, tokenizer="hugging_face"
    )
    return FastTokenizer.parse(content, text).vocab_size - 1
