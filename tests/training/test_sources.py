"""Training data in every form that people have it, and damaged in the ways that it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from model.data.skipped_samples import SkippedSamples
from tests.training.conftest import picture, write_shard
from training.config import Columns, Data, Source
from training.data.dataset import TrainingSet
from training.data.image_reader import ImageReader
from training.data.index import open_index, scan
from training.data.sample import SampleRecord
from training.data.shards import ShardError, find_shards, read_shards

RED, BLUE = picture("red", 0), picture("blue", 1)


def read(base: Path, **source: Any) -> tuple[dict[str, tuple[bytes, list[str], str | None]], SkippedSamples]:
    """Key: picture, captions, label; and what was skipped."""
    skipped, reader = SkippedSamples(), ImageReader()
    entries = list(scan(Source(**source), base, skipped))
    assert len({entry.key for entry in entries}) == len(entries)
    return {e.key: (reader.read(e.location), e.annotation.captions, e.annotation.label) for e in entries}, skipped


def pictures(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.png").write_bytes(RED)
    (folder / "b.png").write_bytes(BLUE)
    return folder


def test_brace_lists_and_globs_name_shards(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(8, 12):
        write_shard(tmp_path / f"train-{number:03d}.tar", {"a.png": RED, "a.txt": b"red"})
    names = [file.name for file in find_shards(["train-{008..010}.tar", "train-{011,00[9]}.tar"], tmp_path)]
    assert names == ["train-008.tar", "train-009.tar", "train-010.tar", "train-011.tar", "train-009.tar"]
    assert not caplog.records
    assert len(find_shards([str(tmp_path / "train-{000..011}.tar")], Path("/"))) == 4
    assert "8 of 12 files are missing" in caplog.text
    with pytest.raises(ShardError, match="train-x"):
        find_shards(["train-x{0..3}.tar"], tmp_path)
    with pytest.raises(ShardError, match="more than"):
        find_shards(["{0..9999}{0..9999}"], tmp_path)


def test_a_shard_is_scanned_without_its_pictures(tmp_path: Path) -> None:
    told = {"label": "red", "captions": ["x", " "], "licence": "CC0"}
    members = {"a.png": RED, "a.json": json.dumps(told).encode(), "b.txt": b"blue", "b.jpg": BLUE, "c.png": RED}
    write_shard(
        tmp_path / "s.tar", {**members, "d.png": RED, "d.txt": b" ", "e.txt": b"alone", "f.png": b"", "f.json": b"{}"}
    )
    found, skipped = read(tmp_path, shards="s.tar")
    assert found == {"s.tar/a": (RED, ["x"], "red"), "s.tar/b": (BLUE, ["blue"], None)}
    assert skipped.counts == {"no readable text": 3, "no picture": 1}


@pytest.mark.parametrize("cut", ["in a picture", "in a header", "garbage for a header"])
def test_of_a_damaged_shard_everything_before_the_damage_is_used(
    tmp_path: Path, cut: str, caplog: pytest.LogCaptureFixture
) -> None:
    members = {}
    for number in range(6):
        members[f"{number}.txt"], members[f"{number}.png"] = b"red", RED
    file = write_shard(tmp_path / "a.tar", members)
    content = file.read_bytes()
    header = content.index(b"4.txt\0")
    if cut == "in a picture":
        content = content[: content.index(b"3.png\0") + 700]
    elif cut == "in a header":
        content = content[: header + 100]
    else:
        content = content[:header] + b"?" * 512 + content[header + 512 :]
    file.write_bytes(content)
    write_shard(tmp_path / "b.tar", {"0.txt": b"blue", "0.png": BLUE})
    found, skipped = read(tmp_path, shards="*.tar")
    readable = 3 if cut == "in a picture" else 4
    assert list(found) == [*(f"a.tar/{number}" for number in range(readable)), "b.tar/0"]
    assert skipped.counts["damaged file"] == 1
    assert "a.tar" in caplog.text
    with pytest.raises(ShardError, match=r"a\.tar"):  # what is measured on a part would mislead
        list(read_shards([file]))


def test_what_is_no_archive_is_skipped_beside_others_and_an_error_alone(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(b"no archive" * 200)
    (tmp_path / "1.tar").write_bytes(b"")
    with pytest.raises(ShardError, match="damaged file: 2"):
        open_index(Source(shards="?.tar"), tmp_path)
    write_shard(tmp_path / "2.tar", {"0.txt": b"blue", "0.png": BLUE})
    assert len(open_index(Source(shards="?.tar"), tmp_path)) == 1


@pytest.mark.parametrize(("name", "separator"), [("t.csv", ","), ("t.tsv", "\t"), ("open_clip.csv", "\t")])
def test_tables_join_rows_of_the_same_picture(tmp_path: Path, name: str, separator: str) -> None:
    pictures(tmp_path / "images")
    rows = [
        ("filepath", "title", "caption", "class"),
        ("images/a.png", "a red thing", "\"red, or 'red'\"", "red"),
        ("images/b.png", "", "", ""),
        ("images/a.png", "another", "", ""),
        ("images/gone.png", "not there", "", ""),
        ("images/b.png", "blüe", "", "blue"),
        ("images/a.png",),
        ("",),
    ]
    (tmp_path / name).write_text("\ufeff" + "\n".join(separator.join(row) for row in rows), "utf-8")
    found, skipped = read(tmp_path, table=name)
    assert found["images/a.png"] == (RED, ["a red thing", "red, or 'red'", "another"], "red")
    assert found["images/b.png"] == (BLUE, ["blüe"], "blue")
    assert skipped.counts == {"no picture": 1}


def test_columns_can_be_named_and_are_asked_for(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "t.csv").write_text("where,de,en\na.png,rot,red\n", "utf-8")
    columns = Columns(picture="where", captions=["en", "de"])
    assert read(tmp_path, table=["t.csv"], columns=columns)[0] == {"a.png": (RED, ["red", "rot"], None)}
    with pytest.raises(ShardError, match=r"columns: \{picture: NAME"):
        read(tmp_path, table="t.csv")
    with pytest.raises(ShardError, match="no column 'fr'; it has where, de, en"):
        read(tmp_path, table="t.csv", columns=Columns(picture="where", captions="fr"))


def test_lists_of_captions_are_read_from_several_row_groups(tmp_path: Path) -> None:
    images = pa.array([{"bytes": RED, "path": "x"}] * 8, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = pa.table({"image": images, "text": [[f"one {n}", f"two {n}"] for n in range(8)]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=4)
    found, skipped = read(tmp_path, table="t.parquet")
    assert found == {f"t.parquet/{n}": (RED, [f"one {n}", f"two {n}"], None) for n in range(8)}
    assert not skipped.counts


def test_parquet_as_hugging_face_writes_it(tmp_path: Path) -> None:
    about = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["red", "blue"]}}}}
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": RED, "path": "x"}, {"bytes": BLUE, "path": "y"}, {"bytes": RED, "path": "z"}], kind)
    captions = pa.array([["one", "two"], [], None], pa.list_(pa.string()))
    table = pa.table({"image": images, "text": captions, "label": pa.array([0, 1, -1])})
    table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=1)
    found, skipped = read(tmp_path, table="t.parquet")
    assert found == {"t.parquet/0": (RED, ["one", "two"], "red"), "t.parquet/1": (BLUE, [], "blue")}
    assert skipped.counts == {"no readable text": 1}
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "n.parquet")
    with pytest.raises(ShardError, match="'label' holds numbers"):
        read(tmp_path, table="n.parquet")


def test_parquet_of_paths_and_damaged_parquet(tmp_path: Path) -> None:
    pictures(tmp_path)
    rows = {"filepath": ["a.png", "b.png", "a.png"], "title": ["red", "blue", "rot"]}
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and nothing more")
    found, skipped = read(tmp_path, table="*.parquet")
    assert found == {"a.png": (RED, ["red", "rot"], None), "b.png": (BLUE, ["blue"], None)}
    assert skipped.counts == {"damaged file": 1}


def test_folders_with_captions_beside_the_pictures(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set" / "2017")
    (folder / "a.txt").write_text("red\n\n rot \n", "utf-8")
    (folder / "c.jpg").write_bytes(RED)
    (folder / "c.json").write_text('{"label": "red"}', "utf-8")
    (folder / ".d.png").write_bytes(RED)
    found, skipped = read(tmp_path, folder="set")
    assert found == {"set/2017/a.png": (RED, ["red", "rot"], None), "set/2017/c.jpg": (RED, [], "red")}
    assert skipped.counts == {"no readable text": 1}


def test_folders_of_labels_and_folders_with_metadata(tmp_path: Path) -> None:
    pictures(tmp_path / "labels" / "lady_beetle" / "more")
    pictures(tmp_path / "labels")
    found, skipped = read(tmp_path, folder="labels")
    assert {label for _, _, label in found.values()} == {"lady beetle"}
    assert list(found) == ["labels/lady_beetle/more/a.png", "labels/lady_beetle/more/b.png"]
    assert skipped.counts == {"no readable text": 2}
    for name, text in (("metadata.csv", "file_name,text\na.png,red\n"), ("metadata.jsonl", '{"file_name": "b.png"')):
        (pictures(tmp_path / name) / name).write_text(text, "utf-8")
    assert read(tmp_path, folder="metadata.csv")[0] == {"a.png": (RED, ["red"], None)}
    lines = '{"file_name": "b.png", "text": ["blue", "blau"]}\n'
    broken = 'not JSON\n{"file_name": 5, "text": "x"}\n'
    (tmp_path / "metadata.jsonl" / "metadata.jsonl").write_text(lines * 300 + broken, "utf-8")
    found, skipped = read(tmp_path, folder="metadata.jsonl")
    assert found == {"b.png": (BLUE, ["blue", "blau"], None)}
    assert skipped.counts == {"unreadable row": 2}
    (tmp_path / "metadata.jsonl" / "metadata.jsonl").write_text(lines * 3 + broken, "utf-8")
    with pytest.raises(ShardError, match=r"2 of 5 rows cannot be read, the first is line 4: Expecting value"):
        read(tmp_path, folder="metadata.jsonl")
    with pytest.raises(ShardError, match="not a folder"):
        read(tmp_path, folder="nowhere")


def test_sources_of_every_form_train_together_and_hold_out_by_key(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.png").write_bytes(picture("red", number, (8, 8)))
    rows = [f"{number}.png,caption {number},second {number}\n" for number in range(40)]
    (tmp_path / "t.csv").write_text("filepath,title,caption\n" + "".join(rows), "utf-8")
    members = {f"{n}.{suffix}": data for n in range(40) for suffix, data in (("png", RED), ("txt", b"a red thing"))}
    write_shard(tmp_path / "s.tar", members)
    train = [Source(table="t.csv", weight=3), Source(shards="s.tar")]
    data = Data(train=train, holdout=0.2, store_pixels=32, max_long_text=0)
    one, other = TrainingSet(data, tmp_path, 0), TrainingSet(data, tmp_path, 0)
    assert len(one) + len(one.holdout) == 80
    assert [sample.key for _, sample in one.holdout] == [sample.key for _, sample in other.holdout]
    assert {source for source, _ in one.holdout} == {0, 1}
    drawn = [one.batch(step, 40) for step in range(20)]
    texts = {text for batch in drawn for text in batch.texts}
    assert {text.split()[0] for text in texts} == {"caption", "second", "a"}
    assert not {sample.key for _, sample in one.holdout} & {key for batch in drawn for key in one.keys(batch.items)}
    share = sum(len(key) < 7 for batch in drawn for key in one.keys(batch.items)) / 800
    assert 0.65 < share < 0.85


def test_configurations_that_contradict_themselves_are_refused() -> None:
    for source in ({}, {"shards": "a.tar", "folder": "b"}, {"shards": "a.tar", "resample": False, "class_power": 0.5}):
        with pytest.raises(ValidationError):
            Source(**source)
    assert Source(shards="a.tar").shards == ["a.tar"]


def test_an_index_is_kept_until_its_files_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, cache = Source(shards="?.tar"), tmp_path / "cache"
    write_shard(tmp_path / "a.tar", {"a.png": RED, "a.txt": b"red", "b.png": RED})
    first = open_index(source, tmp_path, cache)
    assert first.folder is not None
    caplog.clear()
    again = open_index(source, tmp_path, cache)
    assert "no readable text: 1" in caplog.text  # is told again
    assert again.folder == first.folder
    assert [again.record(n) for n in range(len(again))] == [first.record(n) for n in range(len(first))]
    assert isinstance(again.record(0), SampleRecord)
    write_shard(tmp_path / "b.tar", {"b.png": RED, "b.txt": b"red"})
    assert len(open_index(source, tmp_path, cache)) == 2
    (tmp_path / "file").write_bytes(b"")
    assert len(open_index(source, tmp_path, tmp_path / "file" / "cache")) == 2  # where nothing can be kept
