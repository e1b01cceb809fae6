"""SigLIP's tokenizers, compared with transformers' own on models that SentencePiece trains here."""

from __future__ import annotations

import base64
import dataclasses
import json
import struct
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece

from model.checkpoints.transformers.spiece import read_model
from model.tokenizers.charsmap import Charsmap, CharsmapError
from model.tokenizers.clip import TokenizerError
from model.tokenizers.sentencepiece import SentenceTokenizer
from model.tokenizers.vocabulary import Vocabulary, read_vocabulary
from tests.model.sentences import siglip2_tokenizer, siglip_tokenizer, spiece, strange_texts, text_config

LOWER = {"clean": "lower", "eos_id": 1, "pad_id": 0}


@pytest.fixture(scope="module")
def unigram() -> bytes:
    return spiece()


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Vocabulary]:
    """Transformers' tokenizer, and what we read from the file that it saves."""
    folder = tmp_path_factory.mktemp("bpe")
    theirs = siglip2_tokenizer(folder)
    theirs.save_pretrained(folder)
    return theirs, read_vocabulary((folder / "tokenizer.json").read_text("utf-8"))


def padded(tokenizer: SentenceTokenizer, texts: Sequence[str]) -> list[list[int]]:
    rows: list[list[int]] = tokenizer.pad([tokenizer.truncate(row) for row in tokenizer.encode(texts)]).tolist()
    return rows


def theirs_padded(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        rows: list[list[int]] = tokenizer(texts, padding="max_length", max_length=64, truncation=True)["input_ids"]
    return rows


@pytest.mark.parametrize("byte_fallback", [False, True])
def test_unigram_ids_are_those_of_transformers(tmp_path: Path, byte_fallback: bool) -> None:
    content = spiece(byte_fallback=byte_fallback, vocab_size=900 if byte_fallback else 600)
    theirs = siglip_tokenizer(tmp_path, content)
    ours = SentenceTokenizer(read_model(content, 900), text_config(900))
    texts = ["", " ", "\u2581", "＜／ｓ＞", "A B", "word " * 100, *strange_texts(12_000, seed=1)]
    for text, mine, expected in zip(texts, padded(ours, texts), theirs_padded(theirs, texts), strict=True):
        assert mine == expected, ascii(text)


def test_byte_pair_ids_are_those_of_transformers(bpe: tuple[Any, Vocabulary]) -> None:
    theirs, vocabulary = bpe
    ours = SentenceTokenizer(vocabulary, text_config(**LOWER))
    texts = ["", " ", "\n\n<h1> big", "A B", "word " * 100, *strange_texts(12_000, seed=2)]
    for text, mine, expected in zip(texts, padded(ours, texts), theirs_padded(theirs, texts), strict=True):
        assert mine == expected, ascii(text)


def test_characters_are_mapped_as_sentencepiece_maps_them(unigram: bytes) -> None:
    plain = {"add_dummy_prefix": False, "escape_whitespaces": False, "remove_extra_whitespaces": False}
    theirs = sentencepiece.SentencePieceNormalizer(model_proto=unigram, **plain)
    ours = Charsmap(read_model(unigram, 600).charsmap)
    for text in ["\u0000", "ﬁ\u0301", "\u1112\u1161\u11ab", "e\u0301", "A\u030a ½", *strange_texts(20_000, seed=3)]:
        text = text.encode("utf-8", "replace").decode()
        assert ours.apply(text) == theirs.normalize(text), ascii(text)


@pytest.mark.parametrize("clean", ["canonicalize", "lower", "openclip"])
def test_a_saved_tokenizer_gives_the_same_ids(
    unigram: bytes, bpe: tuple[Any, Vocabulary], tmp_path: Path, clean: Any
) -> None:
    texts = strange_texts(500, seed=4)
    for vocabulary in (read_model(unigram, 600), bpe[1]):
        config = text_config(clean=clean, eos_id=1, pad_id=0)
        tokenizer = SentenceTokenizer(vocabulary, config)
        tokenizer.save(tmp_path / "tokenizer.json")
        again = SentenceTokenizer.parse((tmp_path / "tokenizer.json").read_text("utf-8"), config)
        assert again.encode(texts) == tokenizer.encode(texts)


def test_control_tokens_in_a_text_are_plain_characters(unigram: bytes, bpe: tuple[Any, Vocabulary]) -> None:
    spelled = ["</s>", "a <unk> b", "<pad>", "＜／ｓ＞", "<eos>", "x<bos>y", "<mask>", "<EOS>", "＜eos＞", "<pad><pad>"]
    for clean in ("canonicalize", "lower", "openclip"):
        for vocabulary in (read_model(unigram, 600), bpe[1]):
            tokenizer = SentenceTokenizer(vocabulary, text_config(clean=clean, eos_id=1, pad_id=0))
            control = {vocabulary.ids[piece] for piece in vocabulary.control if piece != "<unk>"}
            for text, row in zip(spelled, tokenizer.encode(spelled), strict=True):
                assert not control & set(row[:-1]), (clean, text)


def test_a_merge_cannot_make_a_control_token(bpe: tuple[Any, Vocabulary]) -> None:
    # SentencePieceExtractor writes such merges where a vocabulary has the halves.
    vocabulary = bpe[1]
    ids = dict(vocabulary.ids)
    for piece in ("<", "e", "o", "s", ">", "<e", "os", "os>"):
        ids.setdefault(piece, len(ids))
    merges = (("<", "e"), ("o", "s"), ("os", ">"), ("<e", "os>"))
    forged = dataclasses.replace(vocabulary, ids=ids, merges=merges)
    tokenizer = SentenceTokenizer(forged, text_config(800, **LOWER))
    assert tokenizer.encode(["<eos>"]) == [[ids["<e"], ids["os>"], 1]]


def test_open_clip_parts_words_at_underscores_and_repairs_texts(unigram: bytes) -> None:
    vocabulary = read_model(unigram, 600)
    canonical = SentenceTokenizer(vocabulary, text_config())
    openclip = SentenceTokenizer(vocabulary, text_config(clean="openclip"))
    assert openclip.encode(["red_cup, &amp;lt;b&amp;gt; cafÃ©!"]) == canonical.encode(["red cup b café"])
    assert canonical.encode(["red_cup"]) == canonical.encode(["redcup"])


def test_rows_are_cut_and_padded_to_the_context(unigram: bytes) -> None:
    tokenizer = SentenceTokenizer(read_model(unigram, 600), text_config(context_length=8))
    [long, short, nothing] = tokenizer.encode(["a red cup on a wooden table beside a cat", "cat", ""])
    assert len(long) > 8
    assert tokenizer.truncate(long) == [*long[:7], 1]
    assert tokenizer.truncate(short) is short
    assert nothing == [1]
    rows = tokenizer.pad([tokenizer.truncate(long), short])
    assert rows.dtype == np.int64
    assert rows.shape == (2, 8)
    assert rows[1].tolist() == [*short, *[1] * (8 - len(short))]
    assert tokenizer.pad([]).shape == (0, 8)


def test_halves_of_characters_are_read(unigram: bytes, bpe: tuple[Any, Vocabulary]) -> None:
    for vocabulary in (read_model(unigram, 600), bpe[1]):
        tokenizer = SentenceTokenizer(vocabulary, text_config(**LOWER))
        assert tokenizer.encode(["\ud83d cat"]) == tokenizer.encode(["? cat"])


def test_a_single_text_is_refused(unigram: bytes) -> None:
    with pytest.raises(TokenizerError, match="into a list"):
        SentenceTokenizer(read_model(unigram, 600), text_config()).encode("a cat")


def test_what_ends_a_text_must_be_a_control_token(unigram: bytes) -> None:
    for fields in ({"eos_id": 50}, {"pad_id": 50}, {"eos_id": 690}):
        with pytest.raises(TokenizerError, match="no control token"):
            SentenceTokenizer(read_model(unigram, 600), text_config(**fields))


def _model(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["model"].update(fields)


def _top(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update(fields)


FORGED: dict[str, Callable[[dict[str, Any]], None]] = {
    "a pattern of its own": _top(normalizer={"type": "BertNormalizer"}),
    "another splitter": _top(pre_tokenizer={"type": "ByteLevel"}),
    "two character maps": _top(
        normalizer={"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": ""}] * 2}
    ),
    "no base64": _top(normalizer={"type": "Precompiled", "precompiled_charsmap": "?"}),
    "a map cut off": _top(
        normalizer={"type": "Precompiled", "precompiled_charsmap": base64.b64encode(b"\xff\xff\0\0").decode()}
    ),
    "another model": _model(type="WordPiece"),
    "no model": _top(model=None),
    "no vocabulary": _model(vocab=None),
    "a score that is no number": _model(vocab=[["<pad>", 0], ["</s>", "NaN"], ["<unk>", 0]]),
    "a piece twice": _model(vocab=[["<pad>", 0], ["</s>", 0], ["<unk>", 0], ["a", 0], ["a", 0]]),
    "no unknown": _model(unk_id=None),
    "an unknown beyond the end": _model(unk_id=10_000),
    "an added token that is no piece": _top(added_tokens=[{"id": 5, "content": "nowhere", "special": True}]),
    "added text": _top(added_tokens=[{"id": 9, "content": "?", "special": False}]),
    "no added tokens": _top(added_tokens=[]),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_file_is_refused(unigram: bytes, forge: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(read_model(unigram, 600).to_json("canonicalize", 1))
    forge(content)
    with pytest.raises(TokenizerError):
        SentenceTokenizer.parse(json.dumps(content), text_config())


@pytest.mark.parametrize(
    "forge",
    [
        _model(dropout=0.5),
        _model(end_of_word_suffix="</w>"),
        _model(continuing_subword_prefix="##"),
        _model(ignore_merges=True),
        _model(merges=[["a", "nothing like it"]]),
        _model(merges=["a"]),
        _model(unk_token="nowhere"),
        _model(vocab={"<pad>": 0, "<eos>": 0}),
        _model(vocab={"<pad>": -1}),
        _top(added_tokens=[{"id": 1, "content": "<eos>", "special": False, "rstrip": True}]),
        _top(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        _top(normalizer={"type": "Prepend", "prepend": "\u2581"}),
        _top(pre_tokenizer={"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"}),
        _top(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a*)*b"}, "behavior": "Isolated", "invert": False}),
    ],
)
def test_a_forged_byte_pair_file_is_refused(
    bpe: tuple[Any, Vocabulary], forge: Callable[[dict[str, Any]], None]
) -> None:
    content = json.loads(bpe[1].to_json("lower", 1))
    forge(content)
    with pytest.raises(TokenizerError):
        SentenceTokenizer.parse(json.dumps(content), text_config(**LOWER))


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", "[" * 100_000, '{"model": {"type": "BPE"}}'])
def test_what_is_no_tokenizer_is_refused(content: str) -> None:
    with pytest.raises(TokenizerError):
        SentenceTokenizer.parse(content, text_config())


def test_a_map_that_leads_nowhere_changes_nothing() -> None:
    units = bytes(range(256)) * 4
    for blob in (len(units).to_bytes(4, "little") + units, (4).to_bytes(4, "little") + b"\xff" * 4):
        assert isinstance(Charsmap(blob + b"\0").apply("any text é \u1112\u1161"), str)


@pytest.mark.parametrize("replacements", [b"", b"no end", b"a" * 257 + b"\0"])
def test_a_character_map_of_replacements_without_end_is_refused(replacements: bytes) -> None:
    trie = struct.pack("<II", 4, 0)
    Charsmap(trie + b"a" * 256 + b"\0")
    with pytest.raises(CharsmapError, match="without end, or of more than 256"):
        Charsmap(trie + replacements)


def test_what_is_read_of_a_long_text_has_the_first_ids_of_all_of_it(
    unigram: bytes, bpe: tuple[Any, Vocabulary]
) -> None:
    pieces = strange_texts(2000, seed=7)
    for vocabulary, options in ((read_model(unigram, 600), {}), (bpe[1], LOWER)):
        tokenizer = SentenceTokenizer(vocabulary, text_config(**options))
        for start in range(0, 2000, 200):
            text = " ".join(pieces[start : start + 200])
            [whole], [beginning] = tokenizer.encode([text]), tokenizer.encode([text], enough=64)
            assert len(beginning) < len(whole)
            assert tokenizer.truncate(beginning) == tokenizer.truncate(whole), ascii(text)
