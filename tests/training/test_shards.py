"""Shards as people make them, and as they should not."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import picture, write_shard
from training.data.shards import ShardError, find_shards, read_shards


def test_shards_are_read_by_key_and_incomplete_samples_are_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    png = picture("red", 0)
    write_shard(
        tmp_path / "a-0.tar",
        {
            "one.png": png,
            "one.txt": b" a red thing \n",
            "two.png": png,
            "two.json": json.dumps({"label": "red", "captions": ["x", ""], "tags": None}).encode(),
            "three.png": png,
            "four.txt": b"no picture",
            "five.png": png,
            "five.json": b"{not json",
        },
    )
    with caplog.at_level(logging.WARNING):
        one, two = read_shards(find_shards(["a-*.tar"], tmp_path))
    assert one.annotation.captions == ["a red thing"]
    texts = two.annotation
    assert (texts.label, texts.captions, texts.tags) == ("red", ["x"], [])
    assert "skipped 3" in caplog.text


def test_unreadable_shards_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.tar").write_bytes(b"this is no archive" * 100)
    with pytest.raises(ShardError, match=r"bad\.tar"):
        list(read_shards([tmp_path / "bad.tar"]))
    with pytest.raises(ShardError, match="none-"):
        find_shards(["none-*.tar"], tmp_path)


def test_shards_of_an_ordinary_archiver_are_read(tmp_path: Path) -> None:
    png = picture("red", 0)
    members = {}
    for folder in ("./", "v1.0/", "a/"):
        for key in ("0001", "0002"):
            members[f"{folder}{key}.png"], members[f"{folder}{key}.txt"] = png, b"red"
            members[f"{folder}._{key}.png"] = b"what an archiver adds"
    write_shard(tmp_path / "a.tar", members)
    assert len(list(read_shards([tmp_path / "a.tar"]))) == 6


@pytest.mark.parametrize(
    "told",
    [
        {"tags": 5},
        {"captions": {"en": "cat"}},
        {"label": ["cat"]},
        {"label": 5},
        {"description": 3, "label": "cat"},
        {"tags": [None]},
        [],
        "cat",
    ],
)
def test_wrong_types_are_skipped_and_lose_nothing_else(tmp_path: Path, told: Any) -> None:
    png = picture("red", 0)
    bad, good = json.dumps(told).encode(), json.dumps({"label": "cat"}).encode()
    write_shard(tmp_path / "a.tar", {"1.png": png, "1.json": bad, "2.png": png, "2.json": good, "3.png": png})
    assert [sample.annotation.label for sample in read_shards([tmp_path / "a.tar"])] == ["cat"]


def test_blank_texts_and_deep_json_are_skipped(tmp_path: Path) -> None:
    png = picture("red", 0)
    deep = b'{"x":' * 100_000
    write_shard(tmp_path / "a.tar", {"1.png": png, "1.json": deep, "2.png": png, "2.txt": b" \n"})
    assert list(read_shards([tmp_path / "a.tar"])) == []
