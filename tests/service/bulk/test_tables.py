"""Tables as people have them: which column is what, where rows begin, and what paths may lead to."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.data.skipped_samples import SkippedSamples
from service.bulk.sources import SourceError, SourceOptions, plan, read
from tests.service.bulk.reading import read_all

TEXTS = ["a cat", 'a "quoted" dog, é', "two\nlines", "last; one"]
EXCEL = 'id;text\r\n1;a cat\r\n2;"a ""quoted"" dog, é"\r\n3;"two\nlines"\r\n4;"last; one"\r\n'
TABLES = {
    "utf8.csv": EXCEL.replace(";", ",").replace("last,", "last;").encode(),
    "excel.csv": EXCEL.encode("utf-8-sig"),
    "unicode.txt.csv": EXCEL.replace(";", "\t").replace("last\t", "last;").encode("utf-16"),
    "a.jsonl": "".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(TEXTS, 1)).encode(),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "img").mkdir()
    for number in range(8):
        (tmp_path / "img" / f"{number}.jpg").write_bytes(b"picture %d" % number)
    return tmp_path


@pytest.mark.parametrize("name", TABLES)
def test_texts_of_a_table_by_their_keys(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(TABLES[name])
    for rows in (1, 3, 100):
        items = read_all(tmp_path / name, options=SourceOptions(part_rows=rows))
        assert [(item.key, item.payload) for item in items] == [(str(n), text) for n, text in enumerate(TEXTS, 1)]
    assert items[1].source == f"{name}#{2 if name == 'a.jsonl' else 3}"


def test_lines_of_texts_and_of_urls_and_paths(folder: Path) -> None:
    (folder / "texts.txt").write_text("a cat\n\n  a dog \r\nlast", "utf-8")
    items = read_all(folder / "texts.txt", options=SourceOptions(part_rows=1))
    assert [(item.key, item.payload) for item in items] == [
        ("texts.txt#1", "a cat"), ("texts.txt#3", "a dog"), ("texts.txt#4", "last"),
    ]  # fmt: skip
    (folder / "paths.txt").write_text("img/1.jpg\nimg\\2.jpg\n", "utf-8")
    items = read_all(folder / "paths.txt", options=SourceOptions(kind="image"))
    assert [item.payload for item in items] == [b"picture 1", b"picture 2"]
    (folder / "urls.txt").write_text("https://example.com/a.jpg\n", "utf-8")
    with pytest.raises(SourceError, match=r"urls\.txt holds URLs: .*SIGHTWORD_URL_HOSTS"):
        list(plan([folder / "urls.txt"], SourceOptions()))


def test_a_picture_is_preferred_and_the_other_column_is_told(folder: Path) -> None:
    table = {"Image Path": [f"img/{n}.jpg" for n in range(8)], "caption": [f"picture {n}" for n in range(8)]}
    pq.write_table(pa.table(table), folder / "t.parquet", row_group_size=5)
    skipped = SkippedSamples()
    items = read_all(folder / "t.parquet", skipped=skipped)
    assert [item.payload for item in items] == [b"picture %d" % n for n in range(8)]
    assert items[6].source == str(folder / "img" / "6.jpg")
    assert list(skipped.notes) == [
        "t.parquet: pictures from `Image Path`, keys are row numbers; `caption` holds texts, which --kind text embeds"
    ]
    texts = read_all(folder / "t.parquet", options=SourceOptions(kind="text"))
    assert [(item.key, item.payload) for item in texts][-1] == ("t.parquet#7", "picture 7")
    chosen = SourceOptions(column="Image Path", key_column="caption", part_rows=3)
    assert [item.key for item in read_all(folder / "t.parquet", options=chosen)] == table["caption"]


def test_pictures_inside_parquet(tmp_path: Path) -> None:
    """As `datasets` and img2dataset write them; a row group may hold many parts, and a part many row groups."""
    pictures = [b"picture %d" % n if n != 4 else None for n in range(8)]
    structs = [{"bytes": each, "path": "x.jpg" if each else None} for each in pictures]
    for size in (1, 2, 100):
        pq.write_table(pa.table({"image": structs, "url": ["https://a/b"] * 8}), tmp_path / "a.parquet", size)
        pq.write_table(
            pa.table({"url": ["https://a/b"] * 8, "jpg": pictures, "key": list("abcdefgh")}),
            tmp_path / "b.parquet",
            size,
        )
        for name, keys in (("a.parquet", [f"a.parquet#{n}" for n in range(8)]), ("b.parquet", list("abcdefgh"))):
            items = read_all(tmp_path / name)
            assert [item.payload for item in items] == pictures
            assert [item.key for item in items] == keys
            assert items[4].error == "the cell is empty"


@pytest.mark.parametrize(
    "path", ["../secret.jpg", "img/../../secret.jpg", "/etc/passwd", "..\\secret.jpg", "img/\0.jpg"]
)
def test_a_path_that_leaves_the_folder_of_the_table_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "t.jsonl").write_text(json.dumps({"path": path}), "utf-8")
    [item] = read_all(tmp_path / "in" / "t.jsonl")
    assert item.payload is None
    told = "its name is none of a file" if "\0" in path else f"leads out of {tmp_path / 'in'}: say the folder that all"
    assert told in str(item.error)
    if "secret" in path and "img" not in path:
        [item] = read_all(tmp_path / "in" / "t.jsonl", options=SourceOptions(root=tmp_path))
        assert "--root is" in str(item.error)


def test_paths_start_from_the_root_that_is_said(folder: Path) -> None:
    (folder / "tables").mkdir()
    (folder / "tables" / "t.csv").write_text(f"path\nimg/1.jpg\n{folder}/img/2.jpg\n", "utf-8")
    items = read_all(folder / "tables" / "t.csv", options=SourceOptions(root=folder))
    assert [item.payload for item in items] == [b"picture 1", b"picture 2"]


def test_keys_that_come_again_have_a_number(tmp_path: Path) -> None:
    for name, keys in (("a.csv", ["x", "y", "x", "x#2", "x"]), ("b.csv", ["y", "z"])):
        (tmp_path / name).write_text("key,text\n" + "".join(f"{key},text\n" for key in keys), "utf-8")
    skipped = SkippedSamples()
    items = read_all(tmp_path / "a.csv", tmp_path / "b.csv", skipped=skipped)
    assert [item.key for item in items] == ["x", "y", "x#2", "x#2#2", "x#3", "y#2", "z"]
    assert any(note.startswith("4 keys came before: they are KEY#2") for note in skipped.notes)


def test_rows_that_cannot_be_read_are_items_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(
        b'{"text": "good"}\n{"text": \n{"text": 7}\n{"text": ""}\n{"other": 1}\n{"text": "caf\xe9"}\n'
    )
    errors = [item.error or "" for item in read_all(tmp_path / "t.jsonl")]
    for error, told in zip(
        errors, ["", "Expecting value", "it is a number, not a text", "is empty", "is empty", "byte 0xE9"], strict=True
    ):
        assert told in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SourceOptions(column="captoin"), "--column: t.csv has no column 'captoin'; it has caption, label, size"),
        (SourceOptions(key_column="id"), "--key-column: t.csv has no column 'id'"),
        (SourceOptions(column="label"), "--column label of t.csv: does it hold pictures or texts? Say --kind"),
        (SourceOptions(kind="image"), "t.csv: which column holds pictures, or the paths or URLs of some? Say"),
    ],
)  # fmt: skip
def test_columns_that_are_not_clear_are_asked_for(tmp_path: Path, options: SourceOptions, message: str) -> None:
    (tmp_path / "t.csv").write_text("caption,label,size\na,b,c\n", "utf-8")
    with pytest.raises(SourceError) as refused:
        list(plan([tmp_path / "t.csv"], options))
    assert message in str(refused.value)


def test_a_file_that_has_changed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a cat\n", "utf-8")
    [part] = plan([tmp_path / "t.txt"], SourceOptions())
    (tmp_path / "t.txt").write_text("a cat and a dog\n", "utf-8")
    with pytest.raises(SourceError, match="has changed since the job was planned"):
        list(read(part, SourceOptions()))
    (tmp_path / "t.txt").unlink()
    with pytest.raises(SourceError, match="which was there when the job was planned"):
        list(read(part, SourceOptions()))


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("encoding", "nonsense", "--encoding: 'nonsense' is no encoding of texts"),
        ("encoding", "hex", "--encoding: 'hex' is no"),
        ("encoding", "undefined", "--encoding: 'undefined' is no"),
        ("delimiter", "\\t", r"--delimiter: '\\\\t' is no single character"),
        ("delimiter", '"', "--delimiter: '\"' is no"),
    ],
)
def test_what_is_no_encoding_or_delimiter_is_refused(option: str, value: str, told: str) -> None:
    with pytest.raises(SourceError, match=told):
        SourceOptions(**{option: value})  # type: ignore[arg-type]


def test_each_item_has_a_key_of_its_own(tmp_path: Path) -> None:
    """Whatever a column of keys holds, and where a picture is named twice."""
    keys = ["t.parquet#1", None, "x" * 10_000, "", "a", "a"]
    pq.write_table(pa.table({"id": keys, "text": ["a cat"] * 6}), tmp_path / "t.parquet")
    pq.write_table(pa.table({"id": [7.0, None, 1.5], "text": ["a cat"] * 3}), tmp_path / "pandas.parquet")
    skipped = SkippedSamples()
    found = [item.key for item in read_all(tmp_path / "t.parquet", tmp_path / "pandas.parquet", skipped=skipped)]
    assert found == [
        "t.parquet#1", "t.parquet#1#2", "t.parquet#2", "t.parquet#3", "a", "a#2",
        "7", "pandas.parquet#1", "pandas.parquet#2",
    ]  # fmt: skip
    assert "5 rows have no key in their column of keys" in str(skipped.notes)
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b.jpg").write_bytes(b"x")
    found = [item.key for item in read_all(picture, picture, tmp_path / "folder", picture)]
    assert found == [str(picture), f"{picture}#2", "folder/b.jpg", f"{picture}#3"]
