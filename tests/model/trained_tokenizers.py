"""Small tokenizers of every model of the `tokenizers` library, trained here and written as the published files are."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from model.library_config import LibraryTextConfig
from model.smoke_inputs import PASSAGE
from tests.model.sentences import SCRIPTS

LINES = [PASSAGE, PASSAGE.upper(), *SCRIPTS] * 10


def wordpiece(size: int = 400, lowercase: bool = True) -> Tokenizer:
    """BERT's."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(LINES, trainers.WordPieceTrainer(vocab_size=size, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def byte_level(size: int = 400) -> Tokenizer:
    """RoBERTa's: byte-level byte-pair encoding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def unigram(size: int = 400, template: str = "<s> $A </s>") -> Tokenizer:
    """XLM-RoBERTa's; with the template "$A </s>" T5's."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(
        LINES, trainers.UnigramTrainer(vocab_size=size, special_tokens=special, unk_token="<unk>")
    )
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 0), ("</s>", 2)])
    return tokenizer


def translating(size: int = 400) -> Tokenizer:
    """NLLB's: a code of the language before a text, an end after it."""
    tokenizer = unigram(size)
    tokenizer.add_special_tokens(["eng_Latn", "deu_Latn"])
    code = tokenizer.token_to_id("eng_Latn")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="eng_Latn $A </s>", special_tokens=[("eng_Latn", code), ("</s>", 2)]
    )
    return tokenizer


def words(size: int = 200) -> Tokenizer:
    """Whole words, without control tokens around a text."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(LINES, trainers.WordLevelTrainer(vocab_size=size, special_tokens=["[UNK]", "[PAD]"]))
    return tokenizer


def text_config(tokenizer: Tokenizer, pad_id: int, context_length: int = 24, **fields: object) -> LibraryTextConfig:
    return LibraryTextConfig.model_validate(
        {
            "context_length": context_length,
            "vocab_size": tokenizer.get_vocab_size(),
            "pad_id": pad_id,
            "fixed_length": False,
            "tokenizer": "hugging_face",
            **fields,
        }
    )
