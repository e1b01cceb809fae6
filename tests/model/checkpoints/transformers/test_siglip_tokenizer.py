"""The tokenizer files of SigLIP folders: what is read, and what is refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.transformers.siglip_tokenizer import SETTINGS, SPIECE, read_tokenizer, write_tokenizer
from model.checkpoints.transformers.spiece import read_model
from model.manifest import TOKENIZER
from tests.model.sentences import changed, siglip2_tokenizer, siglip_tokenizer, spiece, strange_texts, text_config

TEXTS = ["A photo of a cat, isn't it?", "", "猫 ½ é", *strange_texts(50, seed=5)]


@pytest.fixture(scope="module")
def model() -> bytes:
    return spiece()


@pytest.fixture
def first(model: bytes, tmp_path: Path) -> Path:
    siglip_tokenizer(tmp_path, model).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def second(tmp_path: Path) -> Path:
    siglip2_tokenizer(tmp_path).save_pretrained(tmp_path)
    return tmp_path


def test_what_a_folder_says_of_its_control_tokens_is_kept(first: Path) -> None:
    tokenizer, text, file = read_tokenizer(first, text_config())
    assert (text.eos_id, text.pad_id, text.clean, file) == (1, 1, "canonicalize", SPIECE)
    assert tokenizer.encode([""]) == [[1]]
    changed(first / SETTINGS, pad_token={"content": "<pad>", "special": True})
    assert read_tokenizer(first, text_config())[1].pad_id == 0


def test_siglip_2_is_told_from_its_model(second: Path) -> None:
    _, text, file = read_tokenizer(second, text_config())
    assert (text.eos_id, text.pad_id, text.clean, file) == (1, 0, "lower", TOKENIZER)


def test_open_clip_says_itself_how_texts_are_cleaned(first: Path) -> None:
    tokenizer, text, _ = read_tokenizer(first, text_config(), "openclip")
    assert text.clean == "openclip"
    assert tokenizer.encode(["red_cup"]) == tokenizer.encode(["red cup"])


def test_a_folder_without_settings_has_the_published_ones(first: Path) -> None:
    expected = read_tokenizer(first, text_config())[0].encode(TEXTS)
    (first / SETTINGS).unlink()
    assert read_tokenizer(first, text_config())[0].encode(TEXTS) == expected


@pytest.mark.parametrize("clean", ["canonicalize", "openclip"])
def test_what_is_written_is_read_again(first: Path, clean: Any) -> None:
    tokenizer, text, _ = read_tokenizer(first, text_config(), clean)
    tokenizer.save(first / TOKENIZER)
    out = first / "out"
    out.mkdir()
    write_tokenizer((first / TOKENIZER).read_text("utf-8"), text, out)
    again, text_again, file = read_tokenizer(out, text_config())
    assert (text_again, file) == (text, TOKENIZER)
    assert again.encode(TEXTS) == tokenizer.encode(TEXTS)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"do_lower_case": False}, "do_lower_case"),
        ({"padding_side": "left"}, '"padding_side": "right"'),
        ({"add_eos_token": False}, '"add_eos_token": true'),
        ({"add_bos_token": True}, '"add_bos_token": false'),
        ({"eos_token": "[SEP]"}, "no piece"),
        ({"pad_token": {"content": ["</s>"]}}, "pad_token"),
        ({"eos_token": "a"}, "no control token"),
    ],
)
def test_settings_of_another_training_are_refused(first: Path, fields: dict[str, Any], reason: str) -> None:
    changed(first / SETTINGS, **fields)
    with pytest.raises(CheckpointError, match=reason):
        read_tokenizer(first, text_config())


def test_gemmas_own_settings_are_refused(second: Path) -> None:
    """Its tokenizer pads on the left, and ends no text, unless it is told otherwise."""
    changed(second / SETTINGS, padding_side=None)
    with pytest.raises(CheckpointError, match="on the left"):
        read_tokenizer(second, text_config())
    changed(second / SETTINGS, padding_side="right")
    begins = [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    for template in (None, {"type": "TemplateProcessing", "single": begins, "special_tokens": {"<bos>": {}}}):
        changed(second / TOKENIZER, post_processor=template)
        with pytest.raises(CheckpointError, match="add_eos_token"):
            read_tokenizer(second, text_config())
    changed(second / SETTINGS, add_eos_token=True)
    read_tokenizer(second, text_config())


def test_more_tokens_than_the_text_tower_has_are_refused(first: Path, model: bytes) -> None:
    pieces = len(read_model(model, 10_000).ids)
    with pytest.raises(CheckpointError, match=f"{pieces} pieces, the text tower only {pieces - 1}"):
        read_tokenizer(first, text_config(pieces - 1))
    read_tokenizer(first, text_config(pieces))


def test_more_byte_pairs_than_the_text_tower_has_are_refused(second: Path) -> None:
    with pytest.raises(CheckpointError, match="700 tokens, the text tower only 699"):
        read_tokenizer(second, text_config(699))


def test_symbols_beyond_the_text_tower_are_left_out() -> None:
    """As mT5's, which the multilingual SigLIP has: a hundred of them at the end, and no rows for them."""
    content = spiece()
    size = len(read_model(content, 10_000).ids)
    symbols = b"".join(_field(1, _field(1, b"<extra_id_%d>" % number) + b"\x18\x04") for number in range(3))
    assert read_model(content + symbols, size) == read_model(content, size)
    with pytest.raises(CheckpointError, match="type 4"):
        read_model(content + symbols, size + 3)


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (lambda content: content[:-1], "beyond the message"),
        (lambda content: b"\x0b" + content, "wire type 3"),
        (lambda content: b"\x08" + b"\xff" * 20, "64 bits"),
        (lambda content: b"\x0a\x02\x0a\xff", "beyond the message|IndexError"),
        (lambda content: b"\x0a\x03\x0a\x01\xff", "UnicodeDecodeError"),
        (lambda content: b"\x0a\x02\x18\x01", "KeyError"),
        (lambda content: b"", "not one piece stands for the unknown"),
        (lambda content: content + _field(1, _field(1, b"</s>")), "comes twice"),
        (lambda content: content + _field(2, b"\x18\x02"), "model_type is 2"),
        (lambda content: content + _field(3, b"\x20\x00"), "remove_extra_whitespaces"),
        (lambda content: content + _field(3, _field(2, b"\xff\xff\xff\x7f")), "character map"),
        (lambda content: b"version https://git-lfs.github.com/spec/v1\n", "SentencePiece"),
    ],
)
def test_a_model_that_is_damaged_or_of_another_kind_is_refused(
    first: Path, model: bytes, forge: Callable[[bytes], bytes], reason: str
) -> None:
    (first / SPIECE).write_bytes(forge(model))
    with pytest.raises(CheckpointError, match=reason) as caught:
        read_tokenizer(first, text_config())
    assert str(first / SPIECE) in str(caught.value)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither spiece\.model nor tokenizer\.json"):
        read_tokenizer(tmp_path, text_config())


def test_clips_tokenizer_is_refused(first: Path) -> None:
    from model.tokenizers.clip import Tokenizer

    (first / SPIECE).unlink()
    Tokenizer.clip(600).save(first / TOKENIZER)
    with pytest.raises(CheckpointError, match=TOKENIZER.replace(".", r"\.")):
        read_tokenizer(first, text_config())


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"model": {"type": "Unigram", "vocab": [[1]]}})])
def test_a_file_that_is_no_tokenizer_is_refused(second: Path, content: str) -> None:
    (second / TOKENIZER).write_text(content)
    with pytest.raises(CheckpointError, match=TOKENIZER.replace(".", r"\.")):
        read_tokenizer(second, text_config())
