"""Tokenizers of other models, after conversion: the ids of open_clip's and transformers' own code, padded."""

from __future__ import annotations

import socket
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.library.openclip_tokenizer import read_openclip_tokenizer
from model.checkpoints.library.tokenizer import (
    FolderTokenizer,
    expect_same_ids,
    load_hf_tokenizer,
    read_hf_tokenizer,
)
from model.config import TextConfig
from model.smoke_inputs import PASSAGE
from model.tokenizers.clip import TextTokenizer
from tests.model.checkpoints.library.folders import (
    FAMILIES,
    bert,
    bert_json,
    nllb,
    nllb_without_languages,
    siglip2,
    write,
    xlm_roberta,
)
from tests.model.sentences import SCRIPTS, changed, strange_texts

CONTEXT, VOCABULARY = 20, 60_000
TEXTS = [
    *("", " ", " \n\t\u3000 ", "a", PASSAGE, PASSAGE.upper(), *SCRIPTS),
    *("&amp;lt;b&gt; &eacute; &#39;", "a_b don't I'LL", "\x00\x07\x1b[31m\x9f\u200b\ufeff", "x" * 500, "12,345.67"),
    *("sch\xc3\xb6n", "\u2581a \u2581", "ﬁ ½ ™ e\u0301", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "ſt ͅ ι"),
    *strange_texts(150, seed=3),
]
HALVES = ["a \ud83d b", "\udc00\ud800"]
CONTROL = ("<s>", "</s>", "<pad>", "<unk>", "<mask>", "<eos>", "<bos>", "[CLS]")
Texts = list[str]


def ours(folder_tokenizer: FolderTokenizer, fixed_length: bool = True, context_length: int = CONTEXT) -> TextTokenizer:
    return folder_tokenizer.build(folder_tokenizer.text_config(context_length, VOCABULARY, fixed_length))


def rows(tokenizer: TextTokenizer, texts: Texts) -> list[list[int]]:
    return tokenizer.pad(
        [tokenizer.truncate(row) for row in tokenizer.encode(texts, tokenizer.context_length)]
    ).tolist()


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return FAMILIES[request.param](tmp_path / "folder")


def test_the_ids_are_transformers(folder: Path) -> None:
    theirs = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    expected = theirs(TEXTS, max_length=CONTEXT, padding="max_length", truncation=True).input_ids
    converted = read_hf_tokenizer(folder)
    assert rows(ours(converted), TEXTS) == expected
    assert converted.pad_id == theirs.pad_token_id
    shorter = theirs(TEXTS[:5], max_length=CONTEXT, padding="longest", truncation=True).input_ids
    assert rows(ours(converted, fixed_length=False), TEXTS[:5]) == shorter


@pytest.mark.parametrize(
    ("family", "clean"),
    [
        *((family, "whitespace") for family in FAMILIES),
        *((family, "canonicalize") for family in ("mt5", "siglip", "siglip2", "xlm_roberta")),
        *((family, "lower") for family in ("bert_cased", "roberta_json")),
    ],
)
def test_the_ids_are_open_clips(open_clip: Any, tmp_path: Path, family: str, clean: str) -> None:
    folder = FAMILIES[family](tmp_path / "folder")
    theirs = open_clip.tokenizer.HFTokenizer(str(folder), CONTEXT, clean=clean)
    text_cfg = {"hf_tokenizer_name": "of/this", "tokenizer_kwargs": {"clean": clean}}
    converted = read_openclip_tokenizer(folder, text_cfg)
    texts = TEXTS + HALVES
    assert rows(ours(converted), texts) == theirs(texts).tolist()


@pytest.mark.parametrize("write_folder", [bert, bert_json, xlm_roberta])
def test_separators_are_stripped(open_clip: Any, tmp_path: Path, write_folder: Callable[[Path], Path]) -> None:
    folder = write_folder(tmp_path / "folder")
    theirs = open_clip.tokenizer.HFTokenizer(str(folder), CONTEXT, strip_sep_token=True)
    text_cfg = {"hf_tokenizer_name": "bert-base-uncased", "tokenizer_kwargs": {"strip_sep_token": True}}
    assert rows(ours(read_openclip_tokenizer(folder, text_cfg)), TEXTS) == theirs(TEXTS).tolist()


def test_clips_appends_a_class_token_in_the_network(open_clip: Any, tmp_path: Path) -> None:
    folder = bert(tmp_path / "folder", bos_token="[unused1]", eos_token="[unused2]")
    text_cfg = {"hf_tokenizer_name": "bert-base-uncased", "tokenizer_mode": "clips"}
    theirs = open_clip.tokenizer.HFTokenizer(str(folder), CONTEXT, tokenizer_mode="clips")
    converted = read_openclip_tokenizer(folder, text_cfg)
    made = rows(ours(converted), TEXTS)
    assert [[*row, converted.appended_id] for row in made] == theirs(TEXTS).tolist()


def test_clips_needs_its_control_tokens(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'clips', and the tokenizer in .* has no bos_token"):
        read_openclip_tokenizer(bert(tmp_path / "f"), {"hf_tokenizer_name": "b", "tokenizer_mode": "clips"})


@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
@pytest.mark.parametrize("context_length", [CONTEXT, 76])
def test_clips_own_tokenizer_with_other_cleaning(open_clip: Any, clean: str, context_length: int) -> None:
    theirs = open_clip.tokenizer.SimpleTokenizer(context_length=context_length, clean=clean)
    converted = read_openclip_tokenizer(Path(), {"tokenizer_kwargs": {"clean": clean}})
    text = converted.text_config(context_length, 49408, fixed_length=True)
    assert text.tokenizer == ("clip" if clean == "lower" else "hugging_face")
    tokenizer = ours(converted, context_length=context_length)
    # The libraries for regular expressions know the letters of different versions of Unicode.
    texts = [text for text in TEXTS if all(unicodedata.category(letter) != "Cn" for letter in text)]
    texts += [*HALVES, PASSAGE * 2]
    assert rows(tokenizer, texts) == theirs(texts).tolist()


def test_texts_of_a_megabyte_are_cut_as_the_originals_cut_them(open_clip: Any, tmp_path: Path) -> None:
    texts = [unit * (1_000_000 // len(unit.encode())) for unit in ("a cat and 3 dogs. ", "кошка и собака ", "東京の猫")]
    for write_folder in (bert, xlm_roberta):
        folder = write_folder(tmp_path / write_folder.__name__)
        theirs = open_clip.tokenizer.HFTokenizer(str(folder), CONTEXT)
        tokenizer = ours(read_openclip_tokenizer(folder, {"hf_tokenizer_name": "of/this"}))
        started = time.perf_counter()
        made = rows(tokenizer, texts)
        assert time.perf_counter() - started < 2
        assert made == theirs([text[:20_000] for text in texts]).tolist()


def test_control_tokens_in_a_text_are_plain_characters(folder: Path) -> None:
    tokenizer = ours(read_hf_tokenizer(folder))
    around = set(tokenizer.encode([""])[0])
    for token in CONTROL:
        [row] = tokenizer.encode([f"a {token} b"])
        [plain] = tokenizer.encode(["a b"])
        assert [index for index in row if index in around] == [index for index in plain if index in around]


def test_a_language_that_the_original_passes_over_is_said(open_clip: Any, tmp_path: Path) -> None:
    folder = nllb(tmp_path / "folder")
    theirs = open_clip.tokenizer.HFTokenizer(str(folder), CONTEXT, language="deu_Latn")
    converted = read_openclip_tokenizer(
        folder, {"hf_tokenizer_name": "facebook/nllb", "tokenizer_kwargs": {"language": "deu_Latn"}}
    )
    assert rows(ours(converted), TEXTS) == theirs(TEXTS).tolist()
    assert "language 'deu_Latn'" in converted.warnings[0]


def test_a_control_token_that_the_files_lack_is_said(tmp_path: Path) -> None:
    folder = nllb_without_languages(tmp_path / "folder")
    theirs = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    converted = read_hf_tokenizer(folder)
    assert rows(ours(converted), TEXTS[:3]) == theirs(TEXTS[:3], max_length=CONTEXT, padding="max_length").input_ids
    assert "writes <unk>" in converted.warnings[0]


def test_what_counts_in_training_only_is_said() -> None:
    arguments = {"reduction_mask": "syntax", "additional_special_tokens": ["<x>"]}
    converted = read_openclip_tokenizer(Path(), {"tokenizer_kwargs": arguments})
    assert ["reduction_mask 'syntax'" in converted.warnings[0], "<x>" in converted.warnings[1]] == [True, True]


@pytest.mark.parametrize(
    ("text_cfg", "reason"),
    [
        ({"tokenizer_kwargs": {"clean": "none"}}, "clean 'none': open_clip has"),
        ({"tokenizer_kwargs": {"bpe_path": "/etc/passwd"}}, "bpe_path '/etc/passwd', which is not known"),
        ({"tokenizer_kwargs": {"trust_remote_code": True}, "hf_tokenizer_name": "a"}, "trust_remote_code True"),
        ({"tokenizer_kwargs": {"language": "xx"}, "hf_tokenizer_name": "a"}, "language 'xx', which is no token"),
        ({"tokenizer_kwargs": ["clean"]}, "not an object"),
        ({"tokenizer_mode": "bert_clips", "hf_tokenizer_name": "a"}, "tokenizer_mode is 'bert_clips'"),
        ({"tokenizer_kwargs": {"padding_side": "left"}, "hf_tokenizer_name": "a"}, "padding_side is 'left'"),
    ],
)
def test_what_open_clip_does_not_know_is_refused_by_name(tmp_path: Path, text_cfg: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        read_openclip_tokenizer(bert(tmp_path / "folder"), text_cfg)


def test_a_folder_without_the_tokenizer_says_which_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'google/mt5-base': .* has no tokenizer: none of tokenizer\.json"):
        read_openclip_tokenizer(tmp_path, {"hf_tokenizer_name": "google/mt5-base"})


def test_code_of_the_folders_is_refused_and_not_run(tmp_path: Path) -> None:
    folder = bert(tmp_path / "folder")
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", "utf-8")
    changed(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "code.Mine"]})
    with pytest.raises(CheckpointError, match=r"auto_map .*code\.Mine.*nothing of a checkpoint is executed"):
        read_hf_tokenizer(folder)
    assert not (tmp_path / "ran").exists()


def test_nothing_is_asked_of_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def look_up(*address: Any, **_: Any) -> Any:
        asked.append(address)
        raise OSError("no network")

    folder = xlm_roberta(tmp_path / "folder")
    changed(folder / "tokenizer_config.json", name_or_path="FacebookAI/xlm-roberta-base")
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    read_hf_tokenizer(folder)
    assert asked == []


def test_no_other_file_is_named_by_the_settings(tmp_path: Path) -> None:
    other = bert(tmp_path / "other")
    folder = bert_json(tmp_path / "folder")
    expected = read_hf_tokenizer(folder).content
    changed(folder / "tokenizer_config.json", vocab_file=str(other / "vocab.txt"), tokenizer_file="/etc/passwd")
    assert read_hf_tokenizer(folder).content == expected


@pytest.mark.parametrize(
    ("settings", "files", "reason"),
    [
        ({"tokenizer_class": "BertTokenizer"}, {"tokenizer_json": "{"}, "transformers reads no tokenizer of it"),
        ({"tokenizer_class": "T5Tokenizer"}, {"spiece_model": b"\xff" * 100}, "no SentencePiece model"),
        ({"tokenizer_class": "T5Tokenizer"}, {"spiece_model": b""}, r"spiece\.model: its longest piece has 0 bytes"),
        (
            {"tokenizer_class": "NllbTokenizer"},
            {"tokenizer_model": b"\x0a\x84\x20\x0a\x81\x20" + b"a" * 4097},
            r"tokenizer\.model: its longest piece has 4097 bytes",
        ),
        ({"tokenizer_class": "RobertaTokenizer"}, {"vocab_json": '{"a": 0}'}, r"vocab\.json without merges\.txt"),
        ({"tokenizer_class": "BertTokenizer"}, {"vocab_txt": "\0" * 10}, "tokenizer"),
        ({"tokenizer_class": "CanineTokenizer"}, {"vocab_txt": "a\n"}, "CanineTokenizer, which is not one of"),
        ({"added_tokens_decoder": {"9" * 12: {"content": "a"}}}, {"vocab_txt": "a\n"}, "added_tokens_decoder with ids"),
    ],
)
def test_hostile_folders_are_refused_by_name(
    tmp_path: Path, settings: dict[str, Any], files: dict[str, Any], reason: str
) -> None:
    with pytest.raises(CheckpointError, match=reason):
        read_hf_tokenizer(write(tmp_path / "folder", settings, **files))


def test_padding_on_the_left_is_refused(tmp_path: Path) -> None:
    folder = siglip2(tmp_path / "folder")
    changed(folder / "tokenizer_config.json", padding_side="left")
    with pytest.raises(CheckpointError, match="padding_side is 'left'"):
        read_hf_tokenizer(folder)


def test_what_transformers_computes_beyond_the_file_is_refused(tmp_path: Path) -> None:
    folder = bert(tmp_path / "folder")
    theirs, _ = load_hf_tokenizer(folder, {})
    expect_same_ids(theirs, theirs.backend_tokenizer.to_str(), "none", folder)
    cased = read_hf_tokenizer(bert(tmp_path / "cased", do_lower_case=False)).content
    with pytest.raises(CheckpointError, match=r"BertTokenizer has other ids than its tokenizer\.json"):
        expect_same_ids(theirs, cased, "none", folder)


def test_a_tower_with_fewer_tokens_is_refused(tmp_path: Path) -> None:
    converted = read_hf_tokenizer(bert(tmp_path / "folder"))
    with pytest.raises(CheckpointError, match=r"BertTokenizer of vocab\.txt.*two come from different models"):
        converted.build(converted.text_config(CONTEXT, 100, fixed_length=False))


def test_our_own_towers_have_their_padding() -> None:
    assert TextConfig(width=64, heads=1, layers=1).pad_id == read_openclip_tokenizer(Path(), {}).pad_id
