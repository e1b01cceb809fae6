"""Tables as spreadsheets and programs write them, and damaged so that rows or characters would be lost in silence."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import resource
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.data.skipped_samples import SkippedSamples
from tests.training.conftest import picture
from tests.training.test_sources import read
from training.config import Source
from training.data.image_reader import ImageReader
from training.data.index import open_index, scan
from training.data.shards import ShardError

RED = picture("red", 0, (8, 8))
COUNT = 24
Rows = list[tuple[str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "img").mkdir()
    for number in range(COUNT):
        (tmp_path / "img" / f"{number}.png").write_bytes(RED)
    return tmp_path


def rows_of(caption: str = "caption {}, café") -> Rows:
    return [(f"img/{number}.png", caption.format(number)) for number in range(COUNT)]


def quoted(rows: Rows, **dialect: Any) -> str:
    out = io.StringIO()
    csv.writer(out, **dialect).writerows([("filepath", "title"), *rows])
    return out.getvalue()


def unquoted(rows: Rows, delimiter: str = "\t") -> str:
    return "\n".join(delimiter.join(row) for row in [("filepath", "title"), *rows]) + "\n"


def captions(folder: Path, **source: Any) -> tuple[list[str], Any]:
    found, skipped = read(folder, **source)
    return [text for _, texts, _ in found.values() for text in texts], skipped


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|"])
@pytest.mark.parametrize("opening", ['"Quoted start of a caption', '"five inches 5', '"a" and more'])
def test_a_caption_that_begins_with_a_quotation_mark_loses_nothing(
    folder: Path, delimiter: str, opening: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of("caption {}")
    rows[2] = ("img/2.png", opening)
    rows[10] = ("img/10.png", 'five inches 5"')  # where the mark would seem to close
    (folder / "t.csv").write_text(unquoted(rows, delimiter), "utf-8")
    found, skipped = captions(folder, table="t.csv")
    assert found == [caption for _, caption in rows]
    assert not skipped.counts
    open_index(Source(table="t.csv"), folder)
    assert "of 1 rows the quotation marks are kept as they stand" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "dialect"),
    [
        (quoted(rows_of(), delimiter=";").encode("utf-8-sig"), "semicolons"),  # Excel, "CSV UTF-8"
        (quoted(rows_of(), delimiter="\t").encode("utf-16"), "utf-16, separated by tabs"),  # Excel, "Unicode text"
        (b"sep=;\r\n" + quoted(rows_of(), delimiter=";").encode(), "semicolons"),
        (quoted(rows_of(), quoting=csv.QUOTE_ALL).encode(), "commas"),  # LibreOffice
        (quoted(rows_of(), lineterminator="\r").encode(), "commas"),
        (quoted(rows_of(), lineterminator="\n").encode(), "commas"),  # pandas
        (quoted(rows_of(), delimiter="\t", lineterminator="\n").encode(), "tabs"),  # open_clip
        (quoted(rows_of(), delimiter="|").encode(), "bars"),
        (quoted(rows_of(), escapechar="\\", doublequote=False).encode(), "commas"),  # Spark
    ],
)
def test_what_spreadsheets_and_programs_write_is_understood_and_told(
    folder: Path, content: bytes, dialect: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "t.csv").write_bytes(content)
    found, skipped = captions(folder, table="t.csv")
    assert found == [caption for _, caption in rows_of()]
    assert not skipped.counts
    open_index(Source(table="t.csv"), folder)
    assert f"{dialect}; pictures from `filepath`, captions from `title`" in capsys.readouterr().err


@pytest.mark.parametrize("marks", [{}, {"escapechar": "\\", "doublequote": False}])
def test_line_breaks_and_marks_inside_a_cell_stay(folder: Path, marks: dict[str, Any]) -> None:
    rows = rows_of()
    rows[3] = ("img/3.png", 'two\nlines, one "quoted"')
    (folder / "t.csv").write_text(quoted(rows, **marks), "utf-8")
    assert captions(folder, table="t.csv")[0] == [caption for _, caption in rows]


def test_flickr30ks_results_are_read(folder: Path) -> None:
    lines = [f"{n}.png| {k}| A dog , number {n} {k} .\n" for n in range(COUNT) for k in range(5)]
    (folder / "img" / "results.csv").write_text("image_name| comment_number| comment\n" + "".join(lines), "utf-8")
    found, _ = captions(folder, table="img/results.csv")
    assert len(found) == 5 * COUNT
    assert found[1] == "A dog , number 0 1 ."


def test_names_without_suffix_and_paths_of_windows_are_found(folder: Path) -> None:
    (folder / "t.csv").write_text("image_id,label\nimg/3,cat\nimg\\4.png,dog\n", "utf-8")
    assert {key: label for key, (_, _, label) in read(folder, table="t.csv")[0].items()} == {
        "img/3": "cat",
        "img\\4.png": "dog",
    }


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_another_encoding_is_an_error_that_names_it_and_a_setting(folder: Path, suffix: str) -> None:
    lines = [json.dumps({"filepath": path, "title": text}, ensure_ascii=False) + "\n" for path, text in rows_of()]
    content = quoted(rows_of()) if suffix == "csv" else "".join(lines)
    (folder / f"t.{suffix}").write_bytes(content.encode("cp1252"))
    first = "line 2" if suffix == "csv" else "line 1"
    message = rf"24 of 24 rows cannot be read, the first is {first}: byte 0xE9 .* is not utf-8; by `encoding: cp1252`"
    with pytest.raises(ShardError, match=message):
        captions(folder, table=f"t.{suffix}")
    assert captions(folder, table=f"t.{suffix}", encoding="cp1252")[0][0] == "caption 0, café"
    with pytest.raises(ShardError, match="24 of 24 rows cannot be read"):
        captions(folder, table=f"t.{suffix}", encoding="ascii")


def test_utf_16_without_its_mark_is_named(folder: Path) -> None:
    (folder / "t.csv").write_bytes(quoted(rows_of()).encode("utf-16-le"))
    with pytest.raises(ShardError, match="say `encoding: utf-16-le`"):
        open_index(Source(table="t.csv"), folder)
    assert len(captions(folder, table="t.csv", encoding="utf-16-le")[0]) == COUNT


@pytest.mark.parametrize(
    ("name", "broken", "cause"),
    [
        ("t.csv", "img/1.png,red, or blue\n", "3 cells, where the first line names 2 columns"),
        ("t.csv", 'img/1.png,"red, or blue\n', "a quotation mark that is not closed, and 3 cells"),
        ("t.csv", f"img/1.png,{'x' * 2**21}\n", "a cell has more than 1,048,576 characters"),
        ("t.csv", f"img/1.png,{'x' * 2**23}\n", "the line has more than 4,194,304 characters"),
        ("t.csv", "img/1.png,caf\ufffd\n", "characters were lost before: 'caf\ufffd'"),
        ("t.csv", "img/1.png,\"['one', 'two']\"\n", "a list as Python prints it"),
        ("t.jsonl", "not JSON\n", "Expecting value"),
        ("t.jsonl", '{"filepath": "img/1.png"\n', "Expecting ',' delimiter"),
        ("t.jsonl", '{"filepath": 5, "title": "x"}\n', "`filepath` holds a number, not a path"),
        ("t.jsonl", '{"filepath": "img/1.png", "title": {"en": "x"}}\n', "`title` holds an object"),
        ("t.jsonl", '{"filepath": "img/1.png", "title": "x", "title": "y"}\n', "the name 'title' is there twice"),
        ("t.jsonl", '{"filepath": "img/1.png", "title": "x", "n": 1' + "0" * 5000 + "}\n", "Exceeds the limit"),
        ("t.jsonl", '{"filepath": "img/1.png", "title": NaN}\n', "`title` holds a number"),
        ("t.jsonl", "[" * 100_000 + "\n", "nested too deeply"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_read_are_counted_and_over_a_small_share_an_error(
    folder: Path, name: str, broken: str, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = "img/0.png,red\n" if name == "t.csv" else '{"filepath": "img/0.png", "title": "red"}\n'
    header = "filepath,title\n" if name == "t.csv" else ""
    (folder / name).write_text(header + good * 300 + broken + good * 300, "utf-8")
    with caplog.at_level(logging.WARNING):
        found, skipped = captions(folder, table=name)
    assert found == ["red"]
    assert skipped.counts.total() == 1
    line = 302 if header else 301
    assert f"{name}, line {line}" in caplog.text
    assert cause in next(iter(skipped.examples.values()))
    (folder / name).write_text(header + good * 50 + broken, "utf-8")
    with pytest.raises(ShardError, match=rf"{name}: 1 of 51 rows cannot be read, the first is line") as raised:
        captions(folder, table=name)
    assert cause in str(raised.value)


def test_delimiter_and_quoting_are_settings(folder: Path) -> None:
    (folder / "t.csv").write_text('filepath~title\nimg/0.png~"red"\nimg/1.png~a, b\n', "utf-8")
    with pytest.raises(ShardError, match="it has filepath~title"):
        captions(folder, table="t.csv")
    assert captions(folder, table="t.csv", delimiter="~")[0] == ["red", "a, b"]
    assert captions(folder, table="t.csv", delimiter="~", quoting="none")[0] == ['"red"', "a, b"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "img/0.png,red\nimg/1.png,blue\n", "Its first line looks like a row"),
        ("t.csv", "url,caption\nhttp://x/a.jpg,red\n", "img2dataset does it, and its tar files are named by `shards`"),
        ("t.csv", "image,caption,caption\na,b,c\n", "several columns called 'caption'"),
        ("t.json", "{}", "COCO's annotations.* as JSON lines"),
        ("t.xlsx", "PK", "Save a sheet as CSV in UTF-8"),
        ("t.jsonl", "[1]\n", "Line 1: JSON holds a list"),
    ],
)
def test_what_is_no_table_says_what_to_do(folder: Path, name: str, content: str, message: str) -> None:
    (folder / name).write_text(content, "utf-8")
    with pytest.raises(ShardError, match=message):
        open_index(Source(table=name), folder)


@pytest.mark.parametrize(
    ("path", "detail"),
    [("http://x/a.jpg", "named by an address"), ("pipe", "is no regular file"), ("empty.png", "is empty"),
     ("a/" * 5000, "is missing"), ("x" * 300 + ".png", "is missing"), ("img", "is no regular file")],
)  # fmt: skip
def test_a_picture_that_is_not_there_says_why(folder: Path, path: str, detail: str) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "empty.png").write_bytes(b"")
    (folder / "t.csv").write_text(f"image,caption\n{path},red\nimg/1.png,blue\n", "utf-8")
    found, skipped = captions(folder, table="t.csv")
    assert found == ["blue"]
    assert dict(skipped.counts) == {"no picture": 1}
    assert detail in skipped.examples["no picture"] or len(path) > 300
    (folder / "t.csv").write_text(f"image,caption\n{path},red\n", "utf-8")
    with pytest.raises(ShardError, match="no usable sample"):
        open_index(Source(table="t.csv"), folder)


def test_tables_of_several_folders_keep_their_pictures_apart(tmp_path: Path) -> None:
    for name, text in (("a", "red"), ("b", "blue")):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "0.png").write_bytes(picture(text, 0, (8, 8)))
        (tmp_path / "set" / name / "metadata.csv").write_text(f"file_name,text\n0.png,{text}\n", "utf-8")
    (tmp_path / "set" / "b" / "1.png").write_bytes(RED)
    found, skipped = read(tmp_path, folder="set")
    assert {key: said for key, (_, said, _) in found.items()} == {"0.png": ["red"], "../b/0.png": ["blue"]}
    assert found["../b/0.png"][0] == picture("blue", 0, (8, 8))
    assert skipped.passed_over == {"a picture that metadata.csv leaves out": 1}


# --- Parquet


def test_rows_of_parquet_without_a_picture_are_counted(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images: list[Any] = [
        {"bytes": RED, "path": "x"},
        {"bytes": None, "path": "y.png"},
        None,
        {"bytes": RED, "path": "z"},
    ]
    pq.write_table(pa.table({"image": pa.array(images, kind), "text": list("abcd")}), tmp_path / "s.parquet")
    pq.write_table(
        pa.table({"jpg": [RED, None, RED, RED], "caption": list("abcd")}), tmp_path / "b.parquet", row_group_size=2
    )
    found, skipped = read(tmp_path, table="s.parquet")
    assert list(found) == ["s.parquet/0", "s.parquet/3"]
    assert dict(skipped.counts) == {"no picture": 2}
    found, skipped = read(tmp_path, table="b.parquet")
    assert {key: data == RED for key, (data, _, _) in found.items()} == {f"b.parquet/{n}": True for n in (0, 2, 3)}
    assert dict(skipped.counts) == {"no picture": 1}


def test_parquet_that_would_take_all_memory_is_refused(tmp_path: Path) -> None:
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000), ["x" * 2**21])  # 200 GB as texts, 100 kB as a file
    many = pa.array([[""] * 500_000])
    for name, column, message in (("l", long, "a cell has 2,097,152 bytes"), ("m", many, "holds 500,000 values")):
        pq.write_table(pa.table({"image": ["a.png"] * len(column), "text": column}), tmp_path / f"{name}.parquet")
        with pytest.raises(ShardError, match=message):
            open_index(Source(table=f"{name}.parquet"), tmp_path)


def test_a_picture_that_parquet_repeats_is_held_once(tmp_path: Path) -> None:
    large = RED + bytes(8 * 2**20)
    rows = pa.DictionaryArray.from_arrays(pa.array([0] * 400), pa.array([large]))  # 3 GB if it were written out
    pq.write_table(pa.table({"jpg": rows, "caption": ["x"] * 400}), tmp_path / "t.parquet")
    reader, before = ImageReader(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    records = list(scan(Source(table="t.parquet"), tmp_path, SkippedSamples()))
    assert len(records) == 400
    assert all(reader.read(record.location) == large for record in records[::100])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # in kB
