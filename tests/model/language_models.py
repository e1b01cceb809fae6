"""Small language models of transformers with random weights, in folders as they are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer

from model.pretrained_text import LANGUAGE_MODELS
from tests.model.trained_tokenizers import byte_level, unigram, wordpiece

SIZES: dict[str, Any] = {
    "vocab_size": 420,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 66,
}
# Of DistilBERT other names; of ALBERT and ELECTRA embeddings that are narrower than the layers.
OWN_SIZES: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
    "albert": {"embedding_size": 16},
    "electra": {"embedding_size": 16},
}
PADDED_WITH_ONE = ("camembert", "mpnet", "roberta", "xlm-roberta")
assert set(OWN_SIZES) | set(PADDED_WITH_ONE) <= set(LANGUAGE_MODELS)


def tokenizer_of(kind: str) -> tuple[Tokenizer, dict[str, Any]]:
    """A tokenizer with the special tokens of that type, and the settings that name them."""
    if kind not in PADDED_WITH_ONE:
        special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        return wordpiece(), special
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return (byte_level() if kind in ("mpnet", "roberta") else unigram()), special


def write_language_model(folder: Path, kind: str = "bert", **fields: Any) -> Path:
    """A folder with config.json, model.safetensors and tokenizer.json; weights are wide enough to tell texts apart."""
    torch.manual_seed(0)
    special = (
        {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2} if kind in PADDED_WITH_ONE else {"pad_token_id": 0}
    )
    sizes = {**SIZES, **OWN_SIZES.get(kind, {}), **special, **fields}
    network = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, **sizes))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
            elif name.endswith("bias"):
                parameter.normal_(std=0.1)
    network.save_pretrained(folder)
    tokenizer, named = tokenizer_of(kind)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64, **named}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return folder


def write_sentence_encoder(
    folder: Path, *, pooling: dict[str, Any] | None = None, modules: tuple[str, ...] = (), **settings: Any
) -> Path:
    """The same as a folder of sentence-transformers, with further `modules`, and `settings` of its first one."""
    write_language_model(folder)
    listed = ["Transformer", "Pooling", *modules]
    paths = ["", *(f"{number}_{kind}" for number, kind in enumerate(listed) if number)]
    entries = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(zip(listed, paths, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(entries), "utf-8")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24, **settings}), "utf-8")
    (folder / "1_Pooling").mkdir()
    chosen = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True} if pooling is None else pooling
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **chosen}), "utf-8")
    return folder
