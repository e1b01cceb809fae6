"""A bundle says whose tokenizer it has, and is read with that one only."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend

from model.bundle import Bundle, bundled, write_manifest
from model.library_config import LibraryConfig, LibraryImageConfig, LibraryTextConfig
from model.manifest import TOKENIZER, BundleError
from model.tokenizers.clip import Tokenizer
from model.tokenizers.fast import FastTokenizer
from tests.model.trained_tokenizers import text_config, unigram


def library_bundle(folder: Path, content: str, text: LibraryTextConfig) -> Bundle:
    """A bundle of a model whose network is not ours: these tests read its tokenizer only."""
    shutil.copytree(bundled(), folder)
    (folder / TOKENIZER).write_text(content, "utf-8")
    manifest = Bundle.load(bundled()).manifest
    config = LibraryConfig(
        name="library",
        library="open_clip",
        architecture="ViT-B-32",
        embed_dim=manifest.config.embed_dim,
        image=LibraryImageConfig(image_size=manifest.preprocessing.size),
        text=text,
    )
    fields = manifest.model_dump(exclude={"files"})
    return write_manifest(folder, {**fields, "config": config})


def test_any_tokenizer_of_the_library_is_read(tmp_path: Path) -> None:
    backend = unigram()
    bundle = library_bundle(tmp_path / "bundle", backend.to_str(), text_config(backend, 1, fixed_length=True))
    tokenizer = bundle.tokenizer()
    assert isinstance(tokenizer, FastTokenizer)
    assert tokenizer.pad(tokenizer.encode(["a cat"])).tolist() == [padded(backend, "a cat")]


def padded(backend: Backend, text: str) -> list[int]:
    ids = backend.encode(text).ids
    return [*ids, *[1] * (24 - len(ids))]


def test_clips_own_may_be_padded_to_the_context_length_in_a_larger_embedding(tmp_path: Path) -> None:
    text = LibraryTextConfig(context_length=20, vocab_size=700, pad_id=3, fixed_length=True, tokenizer="clip")
    tokenizer = library_bundle(tmp_path / "bundle", Tokenizer.clip(600, 20).as_json, text).tokenizer()
    assert isinstance(tokenizer, Tokenizer)
    assert tokenizer.pad(tokenizer.encode([""])).tolist() == [[598, 599] + [3] * 18]


@pytest.mark.parametrize("kind", ["clip", "hugging_face"])
def test_more_tokens_than_the_tower_has_are_refused(tmp_path: Path, kind: str) -> None:
    text = LibraryTextConfig.model_validate(
        {"context_length": 20, "vocab_size": 500, "pad_id": 0, "fixed_length": False, "tokenizer": kind}
    )
    bundle = library_bundle(tmp_path / "bundle", Tokenizer.clip(600, 20).as_json, text)
    with pytest.raises(BundleError, match=r"tokenizer\.json.*two come from different models"):
        bundle.tokenizer()


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    text = LibraryTextConfig(context_length=20, vocab_size=700, pad_id=0, fixed_length=False, tokenizer="clip")
    bundle = library_bundle(tmp_path / "bundle", unigram().to_str(), text)
    with pytest.raises(BundleError, match="not byte-pair encoding with end-of-word marks"):
        bundle.tokenizer()
