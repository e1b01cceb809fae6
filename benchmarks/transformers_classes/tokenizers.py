"""Tokenizers of the kinds that the classes have, as transformers builds them: small ones, and CLIP's own."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from model.smoke_inputs import PASSAGE
from model.tokenizers.clip import Tokenizer as ClipTokenizer

TEXTS = (
    "a photo of TWO cafés, it's 3 o'clock! & time for tea!!",
    "b",
    "Фотография рыжей кошки на подоконнике!",
    "東京の夜景、雨に濡れた通り",
    "صورة لمدينة قديمة عند غروب الشمس",
    "un perro",
    PASSAGE,
    f"{PASSAGE} {PASSAGE}",
)
_LINES = [PASSAGE, *PASSAGE.split(", "), *TEXTS] * 20
VOCABULARY = 800  # of those that are trained here


def clip(folder: Path, **settings: Any) -> Any:
    """CLIP's own, with its 49,408 tokens."""
    from transformers import CLIPTokenizer

    model = json.loads(ClipTokenizer.clip().as_json)["model"]
    return CLIPTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]], **settings)


def owlvit(folder: Path) -> Any:
    """CLIP's, which fills rows up with exclamation marks."""
    return clip(folder, pad_token="!", model_max_length=16)  # noqa: S106


def bert(folder: Path) -> Any:
    """BERT's, of small letters."""
    from transformers import BertTokenizer

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(_LINES, trainers.WordPieceTrainer(vocab_size=600, special_tokens=special))
    return BertTokenizer(vocab=tokenizer.get_vocab())


def xlm_roberta(folder: Path) -> Any:
    """XLM-RoBERTa's unigrams."""
    from transformers import XLMRobertaTokenizer

    trained = _train(pad_id=-1, unk_id=0, bos_id=1, eos_id=2)
    read = sentencepiece.SentencePieceProcessor(model_proto=trained)
    pieces = [(read.id_to_piece(index), read.get_score(index)) for index in range(3, read.get_piece_size())]
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    return XLMRobertaTokenizer(vocab=[*special, *pieces, ("<mask>", 0.0)])


def siglip(folder: Path) -> Any:
    """SigLIP's, which reads a file of SentencePiece: written into `folder`."""
    from transformers import SiglipTokenizer

    file = folder / "spiece.model"
    file.write_bytes(_train(pad_id=0, pad_piece="<pad>", eos_id=1, unk_id=2, bos_id=-1))
    return SiglipTokenizer(str(file), model_max_length=64, model_input_names=["input_ids"])


def tips(folder: Path) -> Any:
    """TIPS', of merges, which writes nothing around a text."""
    from transformers import Tipsv2Tokenizer

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(),
        pre_tokenizers.Metaspace(prepend_scheme="always"),
    ])  # fmt: skip
    trained = [f"<0x{byte:02X}>" for byte in range(256)]
    special = ["<pad>", "<unk>", *trained]
    tokenizer.train_from_iterator(_LINES, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special))
    model = json.loads(tokenizer.to_str())["model"]
    return Tipsv2Tokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])


def _train(**options: Any) -> bytes:
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_LINES),
        model_writer=file,
        model_type="unigram",
        hard_vocab_limit=False,
        minloglevel=2,
        vocab_size=VOCABULARY - 8,
        character_coverage=0.9999,
        **options,
    )
    return file.getvalue()
