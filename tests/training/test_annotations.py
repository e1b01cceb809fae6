"""What is said of a picture, by the one rule of folders, shards and tables; which of several texts it was."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.conftest import picture, write_shard
from tests.training.test_sources import read
from training.config import Source
from training.data.index import open_index
from training.data.shards import ShardError

RED = picture("red", 0, (8, 8))


def img2dataset(number: int) -> dict[str, Any]:
    """What img2dataset 1.47 writes beside a picture, field by field."""
    return {
        "LICENSE": "CC0", "caption": f"caption {number}", "url": f"http://127.0.0.1/{number}.jpg",
        "key": f"{number:07d}", "status": "success", "error_message": None, "width": 64, "height": 64,
        "original_width": 144, "original_height": 144, "exif": "{}", "sha256": "0" * 64,
    }  # fmt: skip


def as_shard(folder: Path, parts: dict[str, bytes]) -> dict[str, Any]:
    write_shard(folder / "a.tar", {"k.png": RED, **{f"k.{suffix}": part for suffix, part in parts.items()}})
    return {"shards": "a.tar"}


def as_folder(folder: Path, parts: dict[str, bytes]) -> dict[str, Any]:
    (folder / "set").mkdir()
    (folder / "set" / "k.png").write_bytes(RED)
    for suffix, part in parts.items():
        (folder / "set" / f"k.{suffix}").write_bytes(part)
    return {"folder": "set"}


def test_img2datasets_shards_are_read_and_it_is_told_which_text_won(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members: dict[str, bytes] = {}
    for number in range(6):
        name, record = f"{number:07d}", img2dataset(number)
        members |= {f"{name}.jpg": RED, f"{name}.json": json.dumps(record).encode(), f"{name}.txt": b"alt text"}
    failed = {**img2dataset(6), "status": "failed_to_download", "error_message": "HTTP Error 404"}
    members["0000006.json"] = json.dumps(failed).encode()
    write_shard(tmp_path / "00000.tar", members)
    found, skipped = read(tmp_path, shards="*.tar")
    assert [captions for _, captions, _ in found.values()] == [[f"caption {number}"] for number in range(6)]
    assert skipped.counts == {"no picture": 1}
    assert "it has .json" in skipped.examples["no picture"]
    open_index(Source(shards="*.tar"), tmp_path)
    printed = capsys.readouterr().err
    assert "KEY.json: captions from `caption`" in printed
    assert "not used: KEY.txt, where KEY.json has captions of its own: 6, first 00000.tar/0000000" in printed


@pytest.mark.parametrize("form", [as_shard, as_folder])
@pytest.mark.parametrize(
    ("parts", "captions", "label"),
    [
        ({"json": b'{"caption": "x"}', "txt": b"y"}, ["x"], None),
        ({"json": b'{"url": "http://x", "width": 3}', "txt": b"y"}, ["y"], None),
        ({"json": b'{"label": "cat"}', "txt": b"one\r\n\r\n two \n"}, ["one", "two"], "cat"),
        ({"json": b'{"captions": "one", "caption": ["two", "one"], "Title": "three"}'}, ["three", "two", "one"], None),
        ({"json": b'{"TEXT": "x", "class": "cat", "similarity": NaN}'}, ["x"], "cat"),
        ({"json": b'{"description": "a long one"}'}, ["a long one"], None),
        ({"json": b"{broken", "txt": b"y"}, ["y"], None),
        ({"txt": b"\xef\xbb\xbfcaf\xc3\xa9"}, ["café"], None),
        ({"txt": "café".encode("utf-16")}, ["café"], None),
        ({"cls": b"dog\n", "txt": b"y"}, ["y"], "dog"),
        ({"caption": b"x", "cls": b"3"}, ["x"], None),
    ],
)
def test_shards_and_folders_read_the_same_texts(
    tmp_path: Path, form: Any, parts: dict[str, bytes], captions: list[str], label: str | None
) -> None:
    [(_, *said)] = read(tmp_path, **form(tmp_path, parts))[0].values()
    assert said == [captions, label]


@pytest.mark.parametrize("form", [as_shard, as_folder])
@pytest.mark.parametrize(
    ("parts", "reason", "detail"),
    [
        ({"txt": "café".encode("cp1252")}, "damaged text", "by `encoding: cp1252` it would be 'café'"),
        ({"txt": "caf\ufffd".encode()}, "damaged text", "characters were lost before"),
        ({"json": b'{"caption": "\\ud800"}'}, "damaged text", "characters were lost before"),
        ({"json": b'{"caption": 5}'}, "wrong type", "`caption` holds a number"),
        ({"json": b'{"label": 3}'}, "wrong type", "`label` is a number"),
        ({"json": b'{"label": "a", "label": "b"}'}, "broken JSON", "the name 'label' is there twice"),
        ({"json": b'{"caption": "x", "n": 1' + b"0" * 100_000 + b"}"}, "broken JSON", "Exceeds the limit"),
        ({"json": b"[" * 100_000}, "broken JSON", "nested too deeply"),
        ({"json": b'["x"]'}, "wrong type", "JSON holds a list"),
        ({"json": b"{}", "txt": b" \n"}, "no readable text", "nothing is said in .json, .txt"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_counted_with_its_cause(
    tmp_path: Path, form: Any, parts: dict[str, bytes], reason: str, detail: str
) -> None:
    found, skipped = read(tmp_path, **form(tmp_path, parts))
    assert not found
    assert dict(skipped.counts) == {reason: 1}
    assert detail in skipped.examples[reason]


@pytest.mark.parametrize("form", [as_shard, as_folder])
def test_the_encoding_of_text_files_is_a_setting(tmp_path: Path, form: Any) -> None:
    source = form(tmp_path, {"txt": "café".encode("cp1252")})
    assert [captions for _, captions, _ in read(tmp_path, **source, encoding="cp1252")[0].values()] == [["café"]]
    with pytest.raises(ValueError, match=r"no encoding 'cp1525'. did you mean cp125"):
        Source(**source, encoding="cp1525")


def test_more_than_a_few_texts_in_another_encoding_are_an_error(tmp_path: Path) -> None:
    def shard(damaged: int) -> None:
        members: dict[str, bytes] = {}
        for number in range(200):
            text = "café".encode("cp1252" if number < damaged else "utf-8")
            members |= {f"{number}.png": RED, f"{number}.txt": text}
        write_shard(tmp_path / "a.tar", members)

    shard(10)
    for _ in range(2):  # from the cache, too
        with pytest.raises(ShardError, match=r"10 of 200 texts are damaged or in another encoding, first a.tar/0"):
            open_index(Source(shards="a.tar"), tmp_path, tmp_path / "cache")
    shard(1)
    assert len(open_index(Source(shards="a.tar"), tmp_path)) == 199


def test_tables_read_the_same_names(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(RED)
    record = {"image": "a.png", "Caption": "x", "class": "cat", "tags": "red, small", "description": "long"}
    (tmp_path / "t.jsonl").write_text(json.dumps(record), "utf-8")
    header, row = ",".join(record), ",".join(f'"{value}"' for value in record.values())
    (tmp_path / "t.csv").write_text(f"{header}\n{row}\n", "utf-8")
    pq.write_table(pa.table({name: [value] for name, value in record.items()}), tmp_path / "t.parquet")
    for name in ("t.jsonl", "t.csv", "t.parquet"):
        index = open_index(Source(table=name), tmp_path)
        told = index.annotation(0)
        assert (told.captions, told.label, told.tags, told.description) == (["x"], "cat", ["red", "small"], "long"), (
            name
        )


# --- keys with dots


def test_keys_with_dots_are_samples_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    members: dict[str, bytes] = {}
    for day in ("01", "02"):
        members |= {f"IMG_2024.05.{day}.jpg": RED, f"IMG_2024.05.{day}.txt": f"day {day}".encode()}
    write_shard(tmp_path / "a.tar", members)
    found, skipped = read(tmp_path, shards="a.tar")
    assert {key: captions for key, (_, captions, _) in found.items()} == {
        "a.tar/IMG_2024.05.01": ["day 01"], "a.tar/IMG_2024.05.02": ["day 02"],
    }  # fmt: skip
    assert not skipped.counts
    open_index(Source(shards="a.tar"), tmp_path)
    assert "a key ends at the last dot of the name" in capsys.readouterr().err


def test_webdatasets_further_parts_stay_parts(tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for number in range(3):  # as webdataset's TarWriter names and orders them
        key = f"train/dog/{number:05d}"
        members |= {f"{key}.cls": b"dog", f"{key}.jpg": RED, f"{key}.json": b'{"label": "dog"}', f"{key}.seg.png": RED}
        members[f"{key}.mask.json"] = b'{"label": "no"}'
    write_shard(tmp_path / "a.tar", members)
    found, skipped = read(tmp_path, shards="a.tar")
    assert [(key, label) for key, (_, _, label) in found.items()] == [
        (f"a.tar/train/dog/{n:05d}", "dog") for n in range(3)
    ]
    assert not skipped.counts
    assert skipped.passed_over == {"a part that is not read, .seg.png": 3, "a part that is not read, .mask.json": 3}


def test_a_sample_without_picture_names_the_suffixes_that_were_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    members = {"a.image.jpg": RED, "a.txt": b"x", "b.heic": RED, "b.txt": b"y", "c.jpg": RED, "c.txt": b"z"}
    write_shard(tmp_path / "a.tar", members)
    with caplog.at_level(logging.WARNING):
        found, skipped = read(tmp_path, shards="a.tar")
    assert list(found) == ["a.tar/c"]
    assert skipped.counts == {"no picture": 2}
    assert "a.tar/a: no picture (it has .image.jpg, .txt)" in caplog.text
    assert "a.tar/b: no picture (it has .heic, .txt)" in caplog.text


def test_numbers_of_classes_are_named_by_classnames(tmp_path: Path) -> None:
    members = {f"{n}.{s}": part for n in range(3) for s, part in (("png", RED), ("cls", str(n).encode()))}
    (tmp_path / "train").mkdir()
    write_shard(tmp_path / "train" / "0.tar", members)
    assert read(tmp_path, shards="train/0.tar")[1].counts == {"no readable text": 3}
    (tmp_path / "classnames.txt").write_text("cat\ndog\n")
    found, skipped = read(tmp_path, shards="train/0.tar")
    assert [label for _, _, label in found.values()] == ["cat", "dog"]
    assert "class 2 is not in classnames.txt" in skipped.examples["no readable text"]


def test_labels_that_may_not_be_meant_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("Dog", "dog", "hot dog", "hotdog"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "a.png").write_bytes(RED)
    open_index(Source(folder="set"), tmp_path)
    printed = capsys.readouterr().err
    assert "differ only in case or spaces are different labels: 'Dog' and 'dog'" in printed
    assert "'hot dog' and 'hotdog'" in printed
    (tmp_path / "t.csv").write_text("image,label\nset/dog/a.png,7\n", "utf-8")
    open_index(Source(table="t.csv"), tmp_path)
    assert "all labels are numbers, such as '7'" in capsys.readouterr().err
