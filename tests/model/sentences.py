"""Small SentencePiece models, trained here by SentencePiece itself, and texts that are hard on tokenizers."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import sentencepiece
from transformers import AddedToken, Siglip2Tokenizer, SiglipTokenizer, T5Tokenizer
from transformers.tokenization_utils_sentencepiece import SentencePieceExtractor

from model.config import SiglipTextConfig
from model.smoke_inputs import PASSAGE

SCRIPTS = (
    "Привет, мир! Это фотография кошки",
    "नमस्ते दुनिया, यह एक तस्वीर है",
    "こんにちは世界 猫の写真",
    "안녕하세요 세계 고양이 사진",
    "مرحبا بالعالم صورة قطة",
    "שלום עולם תמונה של חתול",
    "Γειά σου Κόσμε, ΟΔΥΣΣΕΥΣ",
    "สวัสดีชาวโลก ภาพแมว",
    "café naïve Straße İstanbul ǆ ﬁne ½ ™ e\u0301 \u1112\u1161\u11ab",
    "🐈 👩‍👩‍👧 🏳️‍🌈 1️⃣ smile 😀😀",
)
LETTERS = ((0x20, 0x7F), (0, 0x600), (0x900, 0xD7FF), (0xE000, 0xFFFF))
MARKS = ((0x300, 0x370), (0x1100, 0x1200), (0x10000, 0x20000))  # that combine, and beyond the first plane
BLANKS = (" ", "  ", "\t", "\n", "\r\n", "", "\u2581", "\u3000", "\xa0", "\u200b", "\u200d", "\ufeff")
JOINTS = (*BLANKS, "-", "_", "'", ". ")


def text_config(vocab_size: int = 700, **fields: Any) -> SiglipTextConfig:
    return SiglipTextConfig(width=32, heads=2, layers=1, vocab_size=vocab_size, **fields)


def strange_texts(count: int, seed: int) -> list[str]:
    """Words of many scripts joined in many ways, and characters at random."""
    chance = random.Random(seed)
    words = [word for line in (PASSAGE, PASSAGE.upper(), *SCRIPTS) for word in line.split()]
    texts = []
    for number in range(count):
        if number % 3:
            joined = (chance.choice(words) + chance.choice(JOINTS) for _ in range(chance.randrange(12)))
            texts.append(chance.choice(JOINTS) + "".join(joined))
        else:
            points = (chance.randrange(*chance.choice(LETTERS + MARKS)) for _ in range(chance.randrange(16)))
            texts.append("".join(map(chr, points)))
    return texts


def spiece(**options: Any) -> bytes:
    """A unigram model as SigLIP's: pieces for padding, end and unknown, and NFKC."""
    lines = [PASSAGE.lower(), *(script.lower() for script in SCRIPTS[:8])] * 20
    return _train(
        lines, **{"model_type": "unigram", "vocab_size": 600, "eos_id": 1, "unk_id": 2, "bos_id": -1, **options}
    )


def siglip_tokenizer(folder: Path, content: bytes) -> SiglipTokenizer:
    (folder / "spiece.model").write_bytes(content)
    return SiglipTokenizer(str(folder / "spiece.model"))


def spiece_as_t5() -> T5Tokenizer:
    """The unigram model as open_clip has it saved: as T5's, whose files end and fill texts with the same token."""
    pieces = sentencepiece.SentencePieceProcessor(model_proto=spiece())
    vocabulary = [(pieces.id_to_piece(index), pieces.get_score(index)) for index in range(pieces.get_piece_size())]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, eos_token="</s>", unk_token="<unk>", pad_token="</s>")


def siglip2_tokenizer(folder: Path, **settings: Any) -> Siglip2Tokenizer:
    """Byte-pair encoding as Gemma's: bytes for the unknown, no prefix, symbols that are found before all else."""
    symbols = ["<mask>", "\n\n", "<h1>"]
    options = {"model_type": "bpe", "vocab_size": 700, "eos_id": 1, "bos_id": 2, "unk_id": 3, "byte_fallback": True}
    plain = {"normalization_rule_name": "identity", "add_dummy_prefix": False, "remove_extra_whitespaces": False}
    names = {"eos_piece": "<eos>", "bos_piece": "<bos>", "user_defined_symbols": symbols}
    (folder / "bpe.model").write_bytes(_train([PASSAGE, *SCRIPTS[:8]] * 20, **options, **plain, **names))
    vocabulary, _, merges = SentencePieceExtractor(str(folder / "bpe.model")).extract()
    (folder / "bpe.model").unlink()
    ends = {"add_eos_token": True, "add_bos_token": False, "padding_side": "right", "model_max_length": 64}
    tokenizer = Siglip2Tokenizer(vocab=vocabulary, merges=[tuple(pair) for pair in merges], **{**ends, **settings})
    tokenizer.add_tokens([AddedToken(symbol, normalized=False, special=False) for symbol in symbols[1:]])
    return tokenizer


def changed(file: Path, **fields: Any) -> None:
    """Set fields of a JSON file; those set to None vanish."""
    content = {**json.loads(file.read_text("utf-8")), **fields}
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not None}), "utf-8")


def _train(lines: list[str], **options: Any) -> bytes:
    model = io.BytesIO()
    pieces = {"pad_id": 0, "pad_piece": "<pad>", "unk_piece": "<unk>", "character_coverage": 0.99}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        hard_vocab_limit=False,
        minloglevel=2,
        **{**pieces, **options},
    )
    return model.getvalue()
