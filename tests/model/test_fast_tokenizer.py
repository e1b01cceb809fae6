"""Tokenizers of other models: rows as the library makes them, control tokens out of reach, hostile files refused."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, processors

from model.smoke_inputs import PASSAGE, token_rows
from model.tokenizers.clip import Tokenizer as ClipTokenizer
from model.tokenizers.clip import TokenizerError
from model.tokenizers.fast import FastTokenizer
from tests.model.sentences import SCRIPTS, strange_texts
from tests.model.trained_tokenizers import byte_level, text_config, translating, unigram, wordpiece, words

TRAINED = {
    "wordpiece": (wordpiece(), 0),
    "byte_level": (byte_level(), 1),
    "unigram": (unigram(), 1),
    "ends_only": (unigram(template="$A </s>"), 1),
    "language": (translating(), 1),
    "words": (words(), 1),
}
TEXTS = ["", " ", "  \n\t ", "a cat", PASSAGE, *SCRIPTS, "&amp;&lt;b&gt;", "\x00\x1b[31m\u200b", "x" * 300]
# In a text, the library finds these.
SPELLED = ["[CLS]", "[SEP]", "[PAD]", "[UNK]", "<s>", "</s>", "<pad>", "<unk>", "<mask>", "eng_Latn", "deu_Latn"]


def without(texts: list[str], spelled: list[str]) -> list[str]:
    return [text for text in texts if not any(token in text for token in spelled)]


@pytest.fixture(params=TRAINED)
def pair(request: pytest.FixtureRequest) -> tuple[Tokenizer, FastTokenizer]:
    backend, pad_id = TRAINED[request.param]
    return backend, FastTokenizer.parse(backend.to_str(), text_config(backend, pad_id))


def test_ids_are_the_librarys(pair: tuple[Tokenizer, FastTokenizer]) -> None:
    backend, ours = pair
    texts = without([*TEXTS, *strange_texts(300, seed=1)], SPELLED)
    assert ours.encode(texts) == [backend.encode(text).ids for text in texts]


def test_rows_are_cut_and_filled_up_as_by_the_library(pair: tuple[Tokenizer, FastTokenizer]) -> None:
    backend, ours = pair
    theirs = Tokenizer.from_str(backend.to_str())
    theirs.enable_truncation(24)
    texts = without([*TEXTS, *strange_texts(100, seed=2)], SPELLED)
    theirs.enable_padding(pad_id=ours.pad_id)
    expected = [encoding.ids for encoding in theirs.encode_batch(texts)]
    assert ours.pad([ours.truncate(row) for row in ours.encode(texts)]).tolist() == expected
    theirs.enable_truncation(24, direction="left")
    expected = [encoding.ids for encoding in theirs.encode_batch(texts)]
    assert ours.pad([ours.truncate(row, "start") for row in ours.encode(texts)]).tolist() == expected


def test_no_text_spells_a_control_token(pair: tuple[Tokenizer, FastTokenizer]) -> None:
    backend, ours = pair
    control = {backend.token_to_id(token) for token in SPELLED} - {None}
    control -= {backend.token_to_id(unknown) for unknown in ("[UNK]", "<unk>")}  # what other characters become
    around = len(ours.encode([""])[0])
    for token in SPELLED:
        for text in (token, f"a{token}b", f" {token} ", f"{token}{token}", token.lower()):
            [row] = ours.encode([text])
            spelled = [index for index in row if index in control]
            assert len(spelled) == around, (text, row)


@pytest.mark.parametrize("clean", ["none", "canonicalize"])
@pytest.mark.parametrize("name", TRAINED)
def test_a_long_text_is_read_only_as_far_as_needed(name: str, clean: str) -> None:
    backend, pad_id = TRAINED[name]
    ours = FastTokenizer.parse(backend.to_str(), text_config(backend, pad_id, clean=clean))
    units = (f"{PASSAGE} ", "東京の猫の写真", f"{SCRIPTS[0]}\n", "&amp; ", "😀 ", "word" * 40, " \t", "a\n")
    texts = [unit * (300_000 // len(unit)) for unit in units]
    started = time.perf_counter()
    short = ours.encode(texts, enough=24)
    assert time.perf_counter() - started < 10
    for unit, text, row in zip(units, texts, short, strict=True):
        [whole] = ours.encode([unit * (20_000 // len(unit))])
        assert ours.truncate(row) == ours.truncate(whole), text[:20]
        assert len(row) > 24 or row == whole


def test_added_tokens_keep_their_ids_and_those_of_the_template_are_out_of_reach() -> None:
    backend = Tokenizer.from_str(TRAINED["wordpiece"][0].to_str())
    backend.add_special_tokens(["<start>", "<end>"])
    backend.add_tokens(["plain token"])
    backend.post_processor = processors.TemplateProcessing(
        single="<start> $A plain", special_tokens=[("<start>", backend.token_to_id("<start>")), ("plain", 5)]
    )
    ours = FastTokenizer.parse(backend.to_str(), text_config(backend, 0))
    texts = ["a plain token of it", "a cat"]
    assert ours.encode(texts) == [backend.encode(text).ids for text in texts]
    assert backend.token_to_id("plain token") in ours.encode(texts)[0]
    assert backend.token_to_id("<end>") not in ours.encode(["<end>"])[0]
    assert ours.vocab_size == backend.get_vocab_size()


def test_control_tokens_beyond_the_tower_are_passed_over_where_no_text_has_them() -> None:
    backend = Tokenizer.from_str(TRAINED["unigram"][0].to_str())
    text = text_config(backend, 1)
    backend.add_special_tokens(["<extra>"])
    ours = FastTokenizer.parse(backend.to_str(), text)
    assert ours.vocab_size == text.vocab_size
    assert max(ours.encode(["<extra>"])[0]) < text.vocab_size


def test_halves_of_surrogates_are_read() -> None:
    backend, pad_id = TRAINED["wordpiece"]
    ours = FastTokenizer.parse(backend.to_str(), text_config(backend, pad_id))
    assert ours.encode(["a \ud83d b", "\udc00"]) == ours.encode(["a ? b", "?"])


def test_a_tower_of_fixed_length_gets_whole_rows() -> None:
    backend, pad_id = TRAINED["ends_only"]
    ours = FastTokenizer.parse(backend.to_str(), text_config(backend, pad_id, fixed_length=True))
    padded = ours.pad(ours.encode(["a cat", ""]))
    assert padded.shape == (2, 24)
    assert padded[1].tolist() == [2] + [1] * 23
    clips = ClipTokenizer.parse(ClipTokenizer.clip(600, 20).as_json, 20, pad_id=7, fixed_length=True)
    assert clips.pad([[598, 599]]).tolist() == [[598, 599] + [7] * 18]


def test_padding_and_truncation_of_the_file_are_off() -> None:
    backend = Tokenizer.from_str(TRAINED["wordpiece"][0].to_str())
    backend.enable_padding(length=50, pad_id=4)
    backend.enable_truncation(5)
    ours = FastTokenizer.parse(backend.to_str(), text_config(backend, 0))
    assert ours.encode([PASSAGE, ""]) == [TRAINED["wordpiece"][0].encode(PASSAGE).ids, [2, 3]]


def test_smoke_inputs_have_their_control_tokens(pair: tuple[Tokenizer, FastTokenizer]) -> None:
    _, ours = pair
    [nothing], [whole] = ours.encode([""]), ours.encode([f"{PASSAGE} {PASSAGE}"])
    rows = token_rows(ours)
    assert [len(row) for row in rows] == list(range(len(nothing) + 1, 25))
    assert rows[-1] == ours.truncate(whole)


def test_what_is_saved_is_what_was_read(pair: tuple[Tokenizer, FastTokenizer], tmp_path: Path) -> None:
    backend, ours = pair
    ours.save(tmp_path / "tokenizer.json")
    assert (tmp_path / "tokenizer.json").read_text("utf-8") == backend.to_str()


def changed(name: str, change: Callable[[dict[str, Any]], None]) -> str:
    content = json.loads(TRAINED[name][0].to_str())
    change(content)
    return json.dumps(content)


def twice(content: dict[str, Any]) -> None:
    content["post_processor"]["single"].append({"Sequence": {"id": "A", "type_id": 0}})


def growing(content: dict[str, Any]) -> None:
    step = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    content["normalizer"] = {"type": "Sequence", "normalizers": [step] * 40}


def exploding(content: dict[str, Any]) -> None:
    content["normalizer"] = {"type": "Replace", "pattern": {"Regex": "(a+)+$|(a|aa)+b"}, "content": "b"}
    content["normalizer"]["pattern"]["Regex"] = "(a|aa|a+)+$b"


REFUSED = {
    "not JSON": ("{", "malformed: JSONDecodeError"),
    "a list": ("[]", "malformed"),
    "nested": ("[" * 100_000, "malformed: RecursionError"),
    "no model": ("{}", "malformed: KeyError: 'model'"),
    "another model": (changed("words", lambda c: c["model"].update(type="Other")), "none of Unigram, BPE"),
    "dropout": (changed("byte_level", lambda c: c["model"].update(dropout=0.1)), "drops merges by chance"),
    "long words": (changed("wordpiece", lambda c: c["model"].update(max_input_chars_per_word=10**6)), "words of"),
    "no unknown": (changed("wordpiece", lambda c: c["model"].update(unk_token="?!")), r"no piece '\?!'"),
    "no unk_id": (changed("unigram", lambda c: c["model"].update(unk_id=None)), "no unk_id"),
    "wrong unk_id": (changed("unigram", lambda c: c["model"].update(unk_id=10**6)), "cannot use it"),
    "a text twice": (changed("wordpiece", twice), "writes a text 2 times"),
    "a long template": (
        changed("wordpiece", lambda c: c["post_processor"]["special_tokens"]["[CLS]"].update(ids=[2] * 30)),
        "leave no room|does not write",
    ),
    "a negative id": (
        changed("wordpiece", lambda c: c["post_processor"]["special_tokens"]["[CLS]"].update(ids=[-1])),
        "negative id",
    ),
    "no number": (
        changed("wordpiece", lambda c: c["post_processor"]["special_tokens"]["[CLS]"].update(ids=[float("inf")])),
        "malformed: OverflowError",
    ),
    "an id beyond": (
        changed("wordpiece", lambda c: c["post_processor"]["special_tokens"]["[CLS]"].update(ids=[9999])),
        "ids up to 9999, the text tower only",
    ),
    "a piece beyond": (changed("wordpiece", lambda c: c["model"]["vocab"].update(zebra=5000)), "ids up to 5000"),
    "growing": (changed("wordpiece", growing), "times as long"),
    "no pattern": (
        changed(
            "wordpiece", lambda c: c.update(normalizer={"type": "Replace", "pattern": {"String": ""}, "content": ""})
        ),
        "has 0 characters",
    ),
    "exploding": (changed("wordpiece", exploding), "cannot use it: .*retry-limit"),
    "a broken pattern": (
        changed(
            "wordpiece", lambda c: c.update(normalizer={"type": "Replace", "pattern": {"Regex": "("}, "content": ""})
        ),
        "cannot use it",
    ),
    "a character map cut short": (
        changed("unigram", lambda c: c.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "/////w=="})),
        "character map is cut short",
    ),
    "an unknown step": (changed("words", lambda c: c.update(normalizer={"type": "Shell", "run": "id"})), "cannot use"),
    "an unknown processor": (
        changed("words", lambda c: c.update(post_processor={"type": "X"})),
        "not one that is known",
    ),
    "other ids": (
        changed(
            "unigram",
            lambda c: c["added_tokens"].append({**c["added_tokens"][0], "content": "new", "id": 390, "special": False}),
        ),
        "another id than the file says",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_files_are_refused_by_name(case: str) -> None:
    content, reason = REFUSED[case]
    started = time.perf_counter()
    with pytest.raises(TokenizerError, match=reason):
        FastTokenizer.parse(content, text_config(TRAINED["wordpiece"][0], 0))
    assert time.perf_counter() - started < 5


def test_a_pattern_that_gives_up_on_a_text_is_an_error_of_that_text() -> None:
    backend = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1, "b": 2}, unk_token="[UNK]"))
    backend.normalizer = normalizers.Replace(Regex("(z|zz|z+)+$b"), "b")
    backend.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    ours = FastTokenizer.parse(backend.to_str(), text_config(backend, 1))
    with pytest.raises(TokenizerError, match="cannot read a text"):
        ours.encode(["z" * 60])
    assert ours.encode(["a"]) == [[0]]


def test_a_single_text_is_no_list() -> None:
    backend, pad_id = TRAINED["words"]
    with pytest.raises(TokenizerError, match="put the single text into a list"):
        FastTokenizer.parse(backend.to_str(), text_config(backend, pad_id)).encode("a cat")
