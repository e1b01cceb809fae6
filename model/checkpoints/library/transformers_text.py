"""The texts of models of transformers: their tokenizer, how long they may be, and whether they may be trimmed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.library.padding import measure_length
from model.checkpoints.library.tokenizer import (
    FolderTokenizer,
    expect_same_ids,
    load_hf_tokenizer,
    longest,
    pad_id,
    run_once,
    unknown_ends,
)
from model.checkpoints.library.transformers_config import naming_failures
from model.checkpoints.library.transformers_network import FAMILIES, TransformersNetwork
from model.library_config import LibraryConfig, LibraryImageConfig
from model.tokenizers.clip import TokenizerError
from model.tokenizers.fast import FastTokenizer

_SHORTEST = 2  # tokens of a row that a graph takes


def read_tokenizer(folder: Path) -> FolderTokenizer:
    """The tokenizer that transformers' AutoTokenizer builds of the files in `folder`. Raises CheckpointError."""
    theirs, source = load_hf_tokenizer(folder, {})
    content = _with_plain_padding(run_once(theirs, folder))
    expect_same_ids(theirs, content, "none", folder)
    # CLIP's has one token for the end and for what is unknown.
    warnings = () if theirs.unk_token_id == theirs.eos_token_id else unknown_ends(theirs, folder)
    return FolderTokenizer(
        content, "hugging_face", pad_id(theirs, folder), "none", source, longest(theirs), warnings=warnings
    )


def _with_plain_padding(content: str) -> str:
    """OWL-ViT fills rows up with "!", which its tokenizer also finds in texts: there it is not a control token."""
    file = json.loads(content)
    for token in file.get("added_tokens") or []:
        token["special"] = token["special"] and len(token["content"]) > 1
    return json.dumps(file, ensure_ascii=False)


def wrap(
    model: Any, text: Any, architecture: str, tokenizer: FolderTokenizer, image_size: int, name: str
) -> tuple[TransformersNetwork, FastTokenizer]:
    """`model` behind our interface, and the tokenizer of its texts; `text` is the configuration of its text tower.

    Raises CheckpointError where tokenizer and towers do not go together.
    """
    family = FAMILIES[architecture]
    lengths = [positions(model, text), tokenizer.model_max_length, family.max_tokens]
    known = [length for length in lengths if length is not None]
    if not known:
        raise CheckpointError("neither config.json nor the tokenizer says how long a text may be")
    try:
        fields = tokenizer.text_config(min(known), text.vocab_size, False)
        encoder = FastTokenizer.parse(tokenizer.content, fields)
        [nothing], [something] = encoder.encode([""]), encoder.encode(["a"])
        config = LibraryConfig(
            name=name,
            library="transformers",
            architecture=architecture,
            embed_dim=1,
            image=LibraryImageConfig(image_size=image_size),
            text=fields,
        )
        network = TransformersNetwork(config, model, family, something[-1:] == [fields.pad_id])
        network.config = LibraryConfig(**{**dict(config), "embed_dim": _embed_dim(network, something)})
        measure_length(network, encoder)
        if len(nothing) < _SHORTEST:
            padded = network.config.text.model_copy(update={"fixed_length": True})
            network.config = network.config.model_copy(update={"text": padded})
        if network.config.text != fields:  # opening one of a large vocabulary takes a while
            encoder = FastTokenizer.parse(tokenizer.content, network.config.text)
        return network, encoder
    except TokenizerError as error:
        raise CheckpointError(f"its tokenizer: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise CheckpointError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def positions(model: Any, text: Any) -> int | None:
    """Tokens for which the text tower has positions."""
    most = getattr(text, "max_position_embeddings", None)
    for module in model.modules():
        # RoBERTa's count from behind the id of its padding.
        if most is not None and hasattr(module, "create_position_ids_from_input_ids"):
            return int(most) - int(module.padding_idx) - 1
    return most


@torch.no_grad()
def _embed_dim(network: TransformersNetwork, row: list[int]) -> int:
    size = network.config.image.image_size
    with naming_failures(network.config.architecture, "computes no vectors"):
        image, text = network.encode_image(torch.zeros(1, 3, size, size)), network.encode_text(torch.tensor([row]))
    if image.ndim != 2 or image.shape != text.shape:
        raise CheckpointError(
            f"its pictures have vectors of shape {list(image.shape[1:])}, its texts of {list(text.shape[1:])}: "
            "there is no common space"
        )
    return image.shape[1]
