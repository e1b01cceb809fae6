"""Models with tokenizers of other kinds: texts arrive at the tower as it expects them, and fail alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tokenizers import Regex, normalizers

from model.bundle import Bundle, bundled
from model.tokenizers.fast import FastTokenizer
from service.inference.reading import Reader
from service.inference.records import ItemsByKind, Record, TokenizedText, new_records
from service.request_context import RequestContext
from service.schema.items import TextItem
from service.settings import Settings
from service.state import Service
from sightword.errors import InferenceError
from sightword.local.reading import Reader as LocalReader
from tests.model.test_bundle_tokenizers import library_bundle
from tests.model.trained_tokenizers import text_config, translating, wordpiece


def read(bundle: Bundle, texts: list[str]) -> list[Record]:
    async def reading() -> list[Record]:
        service = Service(Settings.read({"model": str(bundled())}))
        records = new_records([TextItem(text, f"inputs.{index}") for index, text in enumerate(texts)])
        try:
            await Reader(bundle, service.shared).read(ItemsByKind.of(records), RequestContext("id"), keep_errors=True)
        finally:
            await service.aclose()
        return records

    return asyncio.run(reading())


def test_texts_are_read_as_the_models_own_library_reads_them(tmp_path: Path) -> None:
    backend = translating()
    bundle = library_bundle(tmp_path / "bundle", backend.to_str(), text_config(backend, 1))
    whole = ["a cat", "two brown dogs", "東京の猫"]
    records = read(bundle, [*whole, "a cat " * 500])
    rows = [record.payload.ids for record in records if isinstance(record.payload, TokenizedText)]
    assert rows[:3] == [backend.encode(text).ids for text in whole]
    tokenizer = bundle.tokenizer()
    assert isinstance(tokenizer, FastTokenizer)
    assert rows[3] == tokenizer.truncate(backend.encode("a cat " * 500).ids)
    assert records[3].excess == "more than 24 tokens"


def test_a_text_that_a_pattern_gives_up_on_fails_alone(tmp_path: Path) -> None:
    backend = wordpiece()
    backend.normalizer = normalizers.Replace(Regex("(z|zz|z+)+$b"), "b")
    bundle = library_bundle(tmp_path / "bundle", backend.to_str(), text_config(backend, 0))
    records = read(bundle, ["a cat", "z" * 60, "a dog"])
    assert [record.error and record.error.code for record in records] == [None, "inference_error", None]
    assert [record.payload is None for record in records] == [False, True, False]
    with pytest.raises(InferenceError, match="tokenizer failed on this text"):
        LocalReader(bundle).ids("z" * 60, "inputs.0", truncate=True)
