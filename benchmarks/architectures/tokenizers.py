"""Small tokenizers in the layouts of the published ones, whose real vocabularies are on a hub."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from model.smoke_inputs import PASSAGE

TEXTS = (
    "a photo of TWO cafés, it's 3 o'clock &amp; time for tea",
    "ein Foto von zwei Hunden, die über eine grüne Wiese laufen",
    "une vieille bicyclette contre un mur de pierre, près de l'église",
    "Фотография рыжей кошки на подоконнике",
    "東京の夜景、雨に濡れた通り",
    "صورة لمدينة قديمة عند غروب الشمس",
    "해변에서 달리는 갈색 개 두 마리",
    "un perro",
)
_LINES = [PASSAGE, *PASSAGE.split(", "), *TEXTS] * 20


def write_tokenizer(name: str, folder: Path) -> None:
    """Write a tokenizer of the kind that a configuration's `hf_tokenizer_name` is of into its folder."""
    if name.startswith("bert-"):
        _write_bert(folder)
    elif name.startswith("roberta-"):
        _write_roberta(folder)
    elif name.startswith("google/mt5-"):
        (folder / "spiece.model").write_bytes(_sentences("unigram", **_T5))
        _write_settings(folder, "T5Tokenizer", extra_ids=0)
    elif name.startswith("facebook/nllb-"):
        _write_nllb(folder)
    elif "SigLIP2" in name:
        _write_gemma(folder)
    elif "SigLIP" in name:
        _write_siglip(folder)
    else:
        (folder / "sentencepiece.bpe.model").write_bytes(_sentences("unigram"))
        _write_settings(folder, "XLMRobertaTokenizer")


_T5 = {"pad_id": 0, "pad_piece": "<pad>", "eos_id": 1, "unk_id": 2, "bos_id": -1}


def _write_settings(folder: Path, tokenizer_class: str, **settings: Any) -> None:
    content = {"tokenizer_class": tokenizer_class, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(content), "utf-8")


def _write_bert(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(_LINES, trainers.WordPieceTrainer(vocab_size=600, special_tokens=special))
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece, _ in pieces), "utf-8")
    _write_settings(folder, "BertTokenizer", do_lower_case=True)


def _write_roberta(folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(_LINES, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_settings(folder, "RobertaTokenizerFast")


def _write_nllb(folder: Path) -> None:
    from transformers import AutoTokenizer, NllbTokenizer

    file = folder / "sentencepiece.bpe.model"
    file.write_bytes(_sentences("bpe"))
    _write_settings(folder, "NllbTokenizer")
    model = json.loads(AutoTokenizer.from_pretrained(str(folder)).backend_tokenizer.to_str())["model"]
    file.unlink()
    NllbTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]]).save_pretrained(folder)


def _write_siglip(folder: Path) -> None:
    from transformers import T5Tokenizer

    pieces = sentencepiece.SentencePieceProcessor(model_proto=_sentences("unigram", **_T5))
    vocabulary = [(pieces.id_to_piece(index), pieces.get_score(index)) for index in range(pieces.get_piece_size())]
    ends = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
    T5Tokenizer(vocab=vocabulary, extra_ids=0, **ends).save_pretrained(folder)


def _write_gemma(folder: Path) -> None:
    from transformers import Siglip2Tokenizer
    from transformers.tokenization_utils_sentencepiece import SentencePieceExtractor

    names = {"eos_id": 1, "bos_id": 2, "unk_id": 3, "pad_id": 0, "pad_piece": "<pad>", "eos_piece": "<eos>"}
    plain: dict[str, Any] = {
        "normalization_rule_name": "identity",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
    }
    file = folder / "bpe.model"
    symbols = ["<mask>", "\n\n", "<h1>"]  # which Gemma's finds before all else
    plain |= {"bos_piece": "<bos>", "byte_fallback": True, "user_defined_symbols": symbols}
    file.write_bytes(_sentences("bpe", **names, **plain))
    vocabulary, _, merges = SentencePieceExtractor(str(file)).extract()
    file.unlink()
    ends = {"add_eos_token": True, "add_bos_token": False, "padding_side": "right", "model_max_length": 64}
    tokenizer = Siglip2Tokenizer(vocab=vocabulary, merges=[tuple(pair) for pair in merges], **ends)
    tokenizer.add_tokens([AddedToken(symbol, normalized=False, special=False) for symbol in symbols[1:]])
    tokenizer.save_pretrained(folder)


def _sentences(kind: str, **options: Any) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_LINES),
        model_writer=model,
        model_type=kind,
        hard_vocab_limit=False,
        minloglevel=2,
        **{"vocab_size": 800, "character_coverage": 0.9999, **options},
    )
    return model.getvalue()
