"""The tokenizer of a CLIPModel's folder against transformers' own, and what sets another one apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from model import smoke_inputs
from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.transformers.clip_tokenizer import read_tokenizer, write_tokenizer
from model.config import TextConfig
from model.tokenizers.clip import Tokenizer
from tests.model.checkpoints.transformers.clip_models import TEXTS, clip_tokenizer


def text_tower(vocab_size: int) -> TextConfig:
    return TextConfig(width=8, heads=1, layers=1, vocab_size=vocab_size)


@pytest.fixture(scope="module")
def own() -> CLIPTokenizer:
    """Transformers' tokenizer around merges that were learned here, numbered from the last to the first."""
    backend = tokenizers.Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(vocab_size=600, end_of_word_suffix="</w>", show_progress=False)
    backend.train_from_iterator([smoke_inputs.PASSAGE.lower()], trainer)
    merges = [tuple(pair) for pair in json.loads(backend.to_str())["model"]["merges"]]
    assert len(merges) > 100
    unmerged = list(json.loads(Tokenizer.clip(1024).as_json)["model"]["vocab"])[:512]
    tokens = [*dict.fromkeys(first + second for first, second in reversed(merges)), *unmerged]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=merges)


@pytest.mark.parametrize("files", ["tokenizer.json", "vocab.json and merges.txt"])
def test_another_vocabulary_gives_the_ids_of_transformers(own: CLIPTokenizer, tmp_path: Path, files: str):
    own.save_pretrained(tmp_path)
    if files != "tokenizer.json":
        model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
        (tmp_path / "tokenizer.json").unlink()
        (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
        (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(m) for m in model["merges"])]))
    tokenizer, told_from = read_tokenizer(tmp_path, text_tower(len(own)))
    assert told_from in files
    texts = [*TEXTS, smoke_inputs.PASSAGE, "RED Cups", "zebra 2024", "été"]
    assert tokenizer.encode(texts) == own(texts)["input_ids"]
    assert any(len(ids) < len(text) // 2 for ids, text in zip(tokenizer.encode(texts), texts, strict=True))


def test_another_vocabulary_is_written_as_it_was_read(own: CLIPTokenizer, tmp_path: Path):
    own.save_pretrained(tmp_path / "theirs")
    tokenizer, _ = read_tokenizer(tmp_path / "theirs", text_tower(len(own)))
    (tmp_path / "ours").mkdir()
    write_tokenizer(tokenizer.as_json, 77, tmp_path / "ours")
    assert CLIPTokenizer.from_pretrained(tmp_path / "ours")(TEXTS)["input_ids"] == own(TEXTS)["input_ids"]
    written, saved = (json.loads((tmp_path / name / "tokenizer.json").read_text()) for name in ("ours", "theirs"))
    assert written == saved


@pytest.mark.parametrize("vocab_size", [1024, 49408])
def test_clip_s_own_files_give_clip_s_tokenizer(tmp_path: Path, vocab_size: int):
    clip_tokenizer(vocab_size).save_pretrained(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    # As tokenizers wrote it before 4.17, and merges as before 0.20.
    content["normalizer"], content["pre_tokenizer"] = {"type": "BertNormalizer", "lowercase": True}, None
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    del content["model"]["type"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    tokenizer, _ = read_tokenizer(tmp_path, text_tower(vocab_size))
    assert tokenizer.as_json == Tokenizer.clip(vocab_size).as_json


def test_a_folder_without_one_has_clip_s_where_the_sizes_are_clip_s(tmp_path: Path):
    tokenizer, told_from = read_tokenizer(tmp_path, text_tower(49408))
    assert (tokenizer.vocab_size, told_from) == (49408, "CLIP's, the folder has none")
    with pytest.raises(CheckpointError, match="1024 tokens has not CLIP's tokenizer"):
        read_tokenizer(tmp_path, text_tower(1024))
    (tmp_path / "vocab.txt").write_text("[PAD]")
    with pytest.raises(CheckpointError, match=r"vocab\.txt is of another kind"):
        read_tokenizer(tmp_path, text_tower(49408))


def _set(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = to

    return change


def _case(content: dict[str, Any]) -> None:
    content["normalizer"]["normalizers"] = [{"type": "NFC"}]


def _accents(content: dict[str, Any]) -> None:
    content["normalizer"]["normalizers"].append({"type": "StripAccents"})


def _split(content: dict[str, Any]) -> None:
    content["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\p{N}+"


def _swapped(content: dict[str, Any]) -> None:
    vocabulary = content["model"]["vocab"]
    vocabulary["!"], vocabulary["<|endoftext|>"] = vocabulary["<|endoftext|>"], vocabulary["!"]
    content["added_tokens"] = []


def _without_a_byte(content: dict[str, Any]) -> None:
    vocabulary = content["model"]["vocab"]
    vocabulary["new"] = vocabulary.pop("!</w>")


def _gap(content: dict[str, Any]) -> None:
    content["model"]["vocab"]["!"] = 77777


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set("model", to=[]), "its model is None, not BPE"),
        (_set("model", "type", to="WordPiece"), "its model is 'WordPiece', not BPE"),
        (_set("model", "end_of_word_suffix", to=None), "end_of_word_suffix is None"),
        (_set("model", "dropout", to=0.1), r"dropout is 0\.1"),
        (_set("model", "ignore_merges", to=True), "ignore_merges is True"),
        (_set("model", "continuing_subword_prefix", to="##"), "continuing_subword_prefix"),
        (_set("model", "vocab", to=["a"]), "its vocabulary is not an object"),
        (_set("model", "vocab", "!", to="0"), "its vocabulary is not an object"),
        (_set("model", "vocab", "!", to=-1), "not the numbers from 0 on"),
        (_set("model", "merges", to={}), "its merges are not a list"),
        (_set("model", "merges", to=["a b c"]), "is not a merge of two tokens"),
        (_set("model", "merges", to=[["a", 1]]), "is not a merge of two tokens"),
        (_set("model", "merges", to=[["zz", "qq"]]), "merges do not fit its vocabulary"),
        (_set("added_tokens", to=[{"content": "<pad>", "id": 9999}]), r"has \d+ tokens, the text tower"),
        (_set("added_tokens", to=[{"content": "!", "id": 5}]), "'!' is added as 5"),
        (_set("added_tokens", to=3), "added_tokens is not a list"),
        (_set("normalizer", to=None), "keeps capital letters"),
        (_set("pre_tokenizer", to=None), "splits texts by"),
        (_case, "keeps capital letters"),
        (_accents, "cleans texts by StripAccents"),
        (_split, "splits texts by"),
        (_swapped, "the last two ids are not"),
        (_without_a_byte, "1 of the 512 tokens for single bytes are missing: '!</w>'"),
        (_gap, "not the numbers from 0 on"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused(own: CLIPTokenizer, tmp_path: Path, change: Any, reason: str):
    own.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    change(content)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=f"tokenizer.json.*{reason}"):
        read_tokenizer(tmp_path, text_tower(len(own)))


def test_a_vocabulary_of_another_size_than_the_tower_is_refused(own: CLIPTokenizer, tmp_path: Path):
    own.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"tokens, the text tower 4096"):
        read_tokenizer(tmp_path, text_tower(4096))


def test_a_split_that_is_no_pattern_is_refused(own: CLIPTokenizer, tmp_path: Path):
    own.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": []}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="it splits texts by"):
        read_tokenizer(tmp_path, text_tower(len(own)))
