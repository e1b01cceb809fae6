"""A pretrained language model in a folder of transformers or sentence-transformers, as a text tower is built of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from model import smoke_inputs
from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.folders import read_object
from model.checkpoints.library.tokenizer import FolderTokenizer, read_hf_tokenizer
from model.checkpoints.library.transformers import load_model, quiet_transformers
from model.checkpoints.library.transformers_config import naming_failures, read_native_config
from model.checkpoints.library.transformers_text import positions
from model.checkpoints.sentence_transformers import SentenceEncoder, find_sentence_encoder
from model.checkpoints.transformers import CONFIG, WEIGHT_FILES, refuse_quantised
from model.checkpoints.weights import find_weights
from model.network.pretrained_text import FrozenEncoder, without_pooler
from model.pretrained_text import LANGUAGE_MODELS, TransformersTextConfig
from model.tokenizers.clip import TokenizerError
from model.tokenizers.fast import FastTokenizer

_SAME = 1e-5  # of any output: what the order of sums makes of the same outputs is below
_HEAD_WIDTH = 64  # of the alignment layers, where the width is a multiple of it
_LETTERS = "ÄÖ Straße AN ISTANBUL"
# What says nothing of the network, or is ours to say.
_NOT_KEPT = frozenset(("architectures", "dtype", "torch_dtype", "transformers_version", "_name_or_path", "use_cache"))


@dataclass(frozen=True)
class LanguageModel:
    """Its configuration without trained layers, its weights by the names of FrozenEncoder, and its tokenizer."""

    text: TransformersTextConfig
    state: dict[str, Tensor] = field(repr=False)
    tokenizer: FastTokenizer
    source: dict[str, str]
    warnings: tuple[str, ...]


def read_language_model(folder: Path) -> LanguageModel:
    """The language model in `folder`, built by transformers, offline and without code of the folder's.

    Raises CheckpointError naming the file, field or tensor that is missing, refused or not understood.
    """
    found = find_sentence_encoder(folder) or SentenceEncoder(folder, "mean", None, False, ())
    file = found.folder / CONFIG
    content = read_object(file)
    kind = content.get("model_type")
    if kind not in LANGUAGE_MODELS:
        raise CheckpointError(
            f"{file}: model_type {kind!r:.100} is no language model that a text tower is made of: there are "
            f"{', '.join(LANGUAGE_MODELS)}"
        )
    refuse_quantised(content, file)
    tokenizer = read_hf_tokenizer(found.folder)
    with quiet_transformers() as library:
        native = read_native_config(content, library, file)
        models: Any = library.MODEL_MAPPING
        network = models[type(native)]
        model, _, warnings = load_model(
            network, native, find_weights(found.folder, WEIGHT_FILES), file, **without_pooler(str(kind))
        )
        encoder, text, ours = _wrap(model, native, tokenizer, found, file)
    source = {
        "network_from": f"{network.__name__} of transformers {library.__version__}",
        "tokenizer_from": tokenizer.source,
    }
    return LanguageModel(text, encoder.state_dict(), ours, source, (*found.warnings, *warnings, *tokenizer.warnings))


def _wrap(
    model: Any, native: Any, tokenizer: FolderTokenizer, found: SentenceEncoder, file: Path
) -> tuple[FrozenEncoder, TransformersTextConfig, FastTokenizer]:
    """The encoder as a bundle would rebuild it, with the weights of `model`, whose outputs it must have."""
    lengths = [positions(model, native), tokenizer.model_max_length, found.max_tokens]
    known = [length for length in lengths if length is not None]
    if not known:
        raise CheckpointError(f"{file}: neither it nor the tokenizer says how long a text may be")
    width = int(native.hidden_size)
    fields: dict[str, Any] = {
        "architecture": _architecture(native),
        "width": width,
        "pooling": found.pooling,
        "alignment_layers": 0,
        "heads": width // _HEAD_WIDTH if width % _HEAD_WIDTH == 0 else native.num_attention_heads,
        "context_length": min(known),
        "vocab_size": native.vocab_size,
        "pad_id": tokenizer.pad_id,
        "fixed_length": False,
    }
    try:
        text = TransformersTextConfig.model_validate(fields)
        ours = FastTokenizer.parse(tokenizer.content, text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise CheckpointError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except TokenizerError as error:
        raise CheckpointError(f"{found.folder}: its tokenizer: {error}") from error
    if found.lowers and ours.encode([_LETTERS]) != ours.encode([_LETTERS.lower()]):
        raise CheckpointError(
            f"{found.folder} gives texts small letters before its tokenizer (do_lower_case), which the tokenizer does "
            "not: add a Lowercase step to its tokenizer.json"
        )
    if ours.encode(["a"])[0][-1] == text.pad_id:
        raise CheckpointError(f"{found.folder}: its tokenizer ends texts with the token that fills rows up")
    encoder = FrozenEncoder(text)
    with naming_failures(file, "builds another network of its fields"):
        encoder.model.load_state_dict(model.state_dict())
    _expect_same_outputs(model, encoder, ours, file)
    return encoder, text, ours


def _architecture(native: Any) -> dict[str, Any]:
    """The fields of a configuration that differ from their defaults, as far as they are numbers or words."""
    differing: Mapping[str, Any] = native.to_diff_dict()
    plain = {key: value for key, value in differing.items() if isinstance(value, bool | int | float | str)}
    return {**{key: value for key, value in plain.items() if key not in _NOT_KEPT}, "model_type": native.model_type}


@torch.no_grad()
def _expect_same_outputs(model: Any, encoder: FrozenEncoder, tokenizer: FastTokenizer, file: Path) -> None:
    rows = smoke_inputs.token_rows(tokenizer)
    ids = torch.from_numpy(tokenizer.pad([rows[0], rows[len(rows) // 3]]))
    seen = ids != encoder.pad_id
    theirs = model(input_ids=ids, attention_mask=seen.long())[0]
    if not bool(((encoder(ids) - theirs)[seen].abs() <= _SAME * theirs[seen].abs().max()).all()):
        raise CheckpointError(f"{file}: the network that its numbers describe has other outputs than transformers' own")
