"""Inputs that would take memory, time or what is not theirs; and memory that does not grow with the input."""

from __future__ import annotations

import json
import os
import resource
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.data.skipped_samples import SkippedSamples
from service.bulk.sources import SourceError, SourceOptions, keys, plan, read
from service.bulk.sources.keys import KeyRegister
from tests.service.bulk.reading import read_all


def test_pipes_and_links_in_a_circle_are_never_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c.jpg").write_bytes(b"x")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "a" / "shard.tar")
    skipped = SkippedSamples()
    assert [item.key for item in read_all(tmp_path / "a", skipped=skipped)] == ["b/c.jpg"]
    assert skipped.passed_over == {
        "no file but a pipe, socket or device": 1, "a link to a folder that is read already": 1,
    }  # fmt: skip
    for name in ("pipe.tar", "pipe.csv", "pipe.parquet", "pipe.txt"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(SourceError, match="is no regular file"):
            list(plan([tmp_path / name], SourceOptions(kind="text")))
    (tmp_path / "t.csv").write_text("path\npipe.tar\n", "utf-8")
    [item] = read_all(tmp_path / "t.csv")
    assert item.error == "the file cannot be read: it is a FIFO"


def test_a_link_to_a_picture_elsewhere_is_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "store.jpg").write_bytes(b"x")
    (tmp_path / "in" / "a.jpg").symlink_to(tmp_path / "store.jpg")
    assert [(item.key, item.payload) for item in read_all(tmp_path / "in")] == [("a.jpg", b"x")]


def test_cells_of_megabytes_are_items_with_the_reason(tmp_path: Path) -> None:
    long = "x" * (2 << 20)
    (tmp_path / "t.csv").write_text(f"text\n{long}\na cat\n", "utf-8")
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": long}) + '\n{"text": "a cat"}\n', "utf-8")
    pq.write_table(pa.table({"text": [long, "a cat"]}), tmp_path / "t.parquet")
    for name, told in (
        ("t.csv", "a cell has more"),
        ("t.jsonl", "the text has more"),
        ("t.parquet", "the text has more"),
    ):
        first, second = read_all(tmp_path / name)
        assert f"{told} than 1,048,576 characters" in str(first.error)
        assert second.payload == "a cat"


def test_a_long_text_that_parquet_repeats_is_there_once(tmp_path: Path) -> None:
    """A page of kilobytes that stands for many megabytes."""
    pq.write_table(pa.table({"text": pa.array(["x" * 1_000_000] * 60).dictionary_encode()}), tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 200_000
    [part] = plan([tmp_path / "t.parquet"], SourceOptions())
    before = pa.total_allocated_bytes()
    items = read(part, SourceOptions())
    assert len(str(next(items).payload)) == 1_000_000
    assert pa.total_allocated_bytes() - before < 30e6
    assert sum(1 for _ in items) == 59


def test_damage_of_parquet_is_told_of_each_row_behind_it(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pq.write_table(
        pa.table({"text": [f"text {n}" for n in range(9)]}), file, 3, compression="none", use_dictionary=False
    )
    [part] = plan([file], SourceOptions())
    content = bytearray(file.read_bytes())
    where = pq.read_metadata(file).row_group(1).column(0).data_page_offset
    content[where : where + 8] = b"\xff" * 8
    file.write_bytes(content)
    os.utime(file, ns=(part.mtime_ns, part.mtime_ns))
    items = list(read(part, SourceOptions()))
    assert [item.payload for item in items[:3]] == ["text 0", "text 1", "text 2"]
    assert all("the file is damaged" in str(item.error) for item in items[3:])
    assert [item.key for item in items] == [f"t.parquet#{n}" for n in range(9)]
    file.write_bytes(content[:-20])
    with pytest.raises(SourceError, match="damaged file, first"):
        list(plan([file], SourceOptions()))


def test_rows_that_parquet_only_says_it_has_are_told(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": [f"text {n}" for n in range(1000)]}), file, store_schema=False)
    content, thousand, two = file.read_bytes(), b"\xd0\x0f", b"\xa0\x1f"  # as Thrift writes numbers
    where = content.rindex(thousand)  # of rows in the row group
    file.write_bytes(content[:where] + two + content[where + 2 :])
    assert pq.read_metadata(file).row_group(0).num_rows == 2000
    items = read_all(file, options=SourceOptions(part_rows=500))
    assert [item.payload for item in items[:1000]] == [f"text {n}" for n in range(1000)]
    assert {item.error for item in items[1000:]} == {"the file has fewer rows than it says"}
    assert len({item.key for item in items}) == len(items) == 2000


def test_the_plan_of_a_long_table_takes_the_memory_of_a_part(tmp_path: Path) -> None:
    """In a list, its rows would be 6 MB, and its keys 3 MB."""
    file = tmp_path / "t.csv"
    file.write_text("key,text\n" + "".join(f"k{n},a text of {n}\n" for n in range(30_000)), "utf-8")
    tracemalloc.start()
    try:
        assert sum(part.rows for part in plan([file], SourceOptions(part_rows=500))) == 30_000
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()


def test_halves_of_characters_are_shown_and_end_no_job(tmp_path: Path) -> None:
    """As JSON can spell them, and as a table in another encoding has them in its first line."""
    half = "\\ud800"
    (tmp_path / "keys.jsonl").write_text(
        f'{{"key": "{half}", "text": "a"}}\n{{"key": "k", "text": "b{half}"}}\n', "utf-8"
    )
    first, second = read_all(tmp_path / "keys.jsonl")
    assert (first.key, first.payload) == ("\\ud800", "a")
    assert "characters were lost before" in str(second.error)
    (tmp_path / "paths.jsonl").write_text(f'{{"path": "{half}.jpg"}}\n{{"path": "https://h/{half}"}}\n', "utf-8")
    path, url = read_all(tmp_path / "paths.jsonl", options=SourceOptions(url_hosts=("h",)))
    assert "its name is none of a file" in str(path.error)
    assert path.source.endswith("/\\ud800.jpg")
    assert "only plain https:// URLs" in str(url.error)
    (tmp_path / "column.jsonl").write_text(f'{{"{half}": "a cat"}}\n', "utf-8")
    (tmp_path / "latin-1.csv").write_bytes("id,légende\n1,a cat\n".encode("latin-1"))
    for name in ("column.jsonl", "latin-1.csv"):
        [item] = read_all(tmp_path / name, options=SourceOptions(kind="text"))
        assert item.payload == "a cat"


def test_keys_are_found_again_among_many() -> None:
    register = KeyRegister()
    assert not any(register.number(f"key {number}") for number in range(50_000))
    assert [register.number(key) for key in ("key 7", "key 7", "key 49999", "new")] == [2, 3, 2, 0]


def test_keys_that_find_no_room_on_the_disk_end_the_planning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And are not taken for damage of their table, which would be left out."""
    monkeypatch.setattr(keys, "_CACHE_KIB", 16)
    file = tmp_path / "t.csv"
    file.write_text("key,text\n" + "".join(f"k{n},a text of {n}\n" for n in range(20_000)), "utf-8")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match="keys cannot be noted among temporary files"):
            list(plan([file], SourceOptions()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
