"""WebDataset shards as img2dataset and webdataset write them, and as an attacker would."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.data.skipped_samples import SkippedSamples
from service.bulk.sources import SourceError, SourceOptions, plan, read
from tests.service.bulk.reading import read_all
from tests.training.conftest import write_shard

TEXT = SourceOptions(kind="text", part_rows=2)


def img2dataset(folder: Path, shards: int = 2, each: int = 5) -> None:
    """As WebDatasetSampleWriter of its writer.py: what failed is in the Parquet file alone."""
    for shard in range(shards):
        rows, members = [], dict[str, bytes]()
        for number in range(each):
            key = f"{shard:05d}{number:04d}"
            meta = {"url": "https://a.test/b.jpg", "key": key, "status": "success", "caption": f"caption {key}"}
            rows.append(meta)
            if number != 3:
                members |= {f"{key}.jpg": b"jpg " + key.encode(), f"{key}.txt": str(meta["caption"]).encode()}
                members[f"{key}.json"] = json.dumps(meta, indent=4).encode()
        write_shard(folder / f"{shard:05d}.tar", members)
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{shard:05d}.parquet")
        (folder / f"{shard:05d}_stats.json").write_text("{}", "utf-8")


def test_the_output_of_img2dataset(tmp_path: Path) -> None:
    img2dataset(tmp_path)
    keys = [f"{shard:05d}{number:04d}" for shard in (0, 1) for number in (0, 1, 2, 4)]
    skipped = SkippedSamples()
    items = read_all(tmp_path, skipped=skipped)
    assert [item.key for item in items] == keys
    assert [item.payload for item in items] == [b"jpg " + key.encode() for key in keys]
    assert items[5].source == f"{tmp_path}/00001.tar/000010001"
    assert skipped.passed_over == {
        "another suffix, .json": 2, "a table beside pictures, texts or shards: to embed it, name it": 2,
    }  # fmt: skip
    assert [item.payload for item in read_all(tmp_path, options=TEXT)] == [f"caption {key}" for key in keys]
    assert [item.key for item in read_all(tmp_path / "00001.parquet", options=TEXT)][3] == "000010003"


def test_a_part_is_read_without_the_bytes_before_it(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.tar", {f"{n}.jpg": os.urandom(3000) for n in range(6)})
    parts = list(plan([shard], SourceOptions(part_rows=2)))
    assert [part.first for part in parts] == [0, 2, 4]
    expected = list(read(parts[2], SourceOptions()))
    with shard.open("r+b") as file:  # of the same size, and as old as before
        file.write(b"\xff" * parts[2].offset)
    os.utime(shard, ns=(parts[2].mtime_ns, parts[2].mtime_ns))
    assert list(read(parts[2], SourceOptions())) == expected
    assert [item.key for item in expected] == ["4", "5"]


def test_keys_with_dots_long_names_and_several_pictures_of_a_key(tmp_path: Path) -> None:
    deep = "d" * 120 + "/IMG_2024.05.01"
    members = {"a.jpg": b"1", "a.seg.png": b"2", "b.0.png": b"3", "b.1.png": b"4", "b.json": b"{}", f"{deep}.jpg": b"5"}
    shard = write_shard(tmp_path / "a.tar", members)
    for rows in (1, 2, 100):
        items = read_all(shard, options=SourceOptions(part_rows=rows))
        assert [(item.key, item.payload) for item in items] == [("a", b"1"), ("b.0", b"3"), ("b.1", b"4"), (deep, b"5")]


def test_texts_are_those_of_the_column_that_is_named(tmp_path: Path) -> None:
    members = {
        "a.json": b'{"caption": "c", "title": "t"}',
        "b.json": b'{"x": 1}',
        "c.txt": b" t\n",
        "d.json": b"[",
        "e.jpg": b"x",
    }
    shard = write_shard(tmp_path / "a.tar", members)
    skipped = SkippedSamples()
    items = read_all(shard, options=TEXT, skipped=skipped)
    assert [item.payload for item in items] == ["c", None, "t", None]
    assert "no text under text, caption" in str(items[1].error)
    assert "broken JSON" in str(items[3].error)
    assert skipped.passed_over["a sample without a .txt or the like, but with .jpg"] == 1
    assert read_all(shard, options=SourceOptions(kind="text", column="Title"))[0].payload == "t"


def test_shards_that_share_keys(tmp_path: Path) -> None:
    shards = [write_shard(tmp_path / f"{n}.tar", {"0.jpg": b"a", "1.jpg": b"b"}) for n in range(2)]
    assert [item.key for item in read_all(*shards)] == ["0", "1", "0#2", "1#2"]


def test_of_a_damaged_shard_what_precedes_the_damage_is_read(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.tar", {f"{n}.jpg": b"x" * 2000 for n in range(4)})
    os.truncate(shard, 6000)
    skipped = SkippedSamples()
    assert [item.key for item in read_all(shard, skipped=skipped)] == ["0", "1"]
    assert skipped.counts == {"damaged file": 1}
    (tmp_path / "b.tar").write_bytes(b"\x1f\x8b" + b"x" * 2000)
    with pytest.raises(SourceError, match=r"(?s)nothing to embed in .*b\.tar.*are to be decompressed first"):
        list(plan([tmp_path / "b.tar"], SourceOptions()))


def test_members_that_are_none(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("/etc/passwd.jpg", "../x.jpg", "._a.jpg", "good.jpg", "large.jpg"):
            info = tarfile.TarInfo(name)
            info.size = 5000 if name == "large.jpg" else 1
            archive.addfile(info, io.BytesIO(b"x" * info.size))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    skipped = SkippedSamples()
    items = read_all(tmp_path / "a.tar", skipped=skipped, options=SourceOptions(max_body_bytes=1024))
    errors = {item.key: item.error for item in items}
    assert errors == {"good": None, "large": "its .jpg has more than 1,024 bytes"}
    assert skipped.passed_over == {
        "a name that leads out of the archive": 2, "hidden or made by the system": 1,
        "a link, a device or a sparse file": 1,
    }  # fmt: skip
