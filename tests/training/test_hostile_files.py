"""Configurations, lists of keys, archives and packages that are made to harm who reads them."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.training.conftest import picture, write_shard
from tests.training.evaluation.test_trouble import benchmark
from training.__main__ import app
from training.config import ConfigError, load_config
from training.config.bounded_yaml import MAX_BYTES, YamlError, parse_yaml
from training.corpus.packages import read_members
from training.data.captions import load_synonyms
from training.data.split import load_excluded
from training.evaluation.datasets import DataError, parse_dataset
from training.evaluation.datasets.archives import read_idx, unpack

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))

MERGES = "a0: &a0 {x: 1, y: 2}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "more than 100,000 values"),
        ("a: &a [*a]", "more than 100,000 values"),
        (MERGES, "merges repeat each other"),
        ("? [a]\n: b", "not YAML"),
        ("a: " + "[" * 10_000, "not YAML"),
        ("a: 1" + "0" * 10_000, "not YAML"),
        ("a: 2024-99-99", "not YAML"),
        ("a: !!python/object/apply:os.system [true]", "not YAML"),
        ("a: x\0", "not YAML"),
        ("#" * (MAX_BYTES + 1), "more than 1,048,576 bytes"),
    ],
)
def test_a_configuration_that_grows_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "c.yaml")
    if len(text) < MAX_BYTES:
        with pytest.raises(YamlError, match=message):
            parse_yaml(text)


def test_pipes_in_place_of_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for load in (load_config, load_excluded, load_synonyms):
        with pytest.raises(ConfigError, match="no regular file"):
            load(tmp_path / "pipe")
    done = CliRunner().invoke(app, ["evaluate", "--data", str(tmp_path), "--class-names", str(tmp_path / "pipe")])
    assert (done.exit_code, "no regular file" in done.output) == (1, True)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": 1' + "0" * 10_000 + "}", "\ufeff{", "\udcff", ""])
def test_lists_that_are_none_are_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "list.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    for load in (load_excluded, load_synonyms):
        with pytest.raises(ConfigError, match=r"list\.json"):
            load(file)
    done = CliRunner().invoke(app, ["evaluate", "--data", str(tmp_path), "--class-names", str(file)])
    assert done.exit_code == 1
    assert "list.json" in done.output
    assert isinstance(done.exception, SystemExit)


# --- archives of evaluation


def bomb(file: Path, size: int) -> None:
    if file.suffix == ".zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed, packed.open("a", "w") as member:
            for _ in range(size >> 20):
                member.write(bytes(1 << 20))
        return
    with tarfile.open(file, "w:gz", compresslevel=1) as tar:
        info = tarfile.TarInfo("a")
        info.size = size
        tar.addfile(info, io.BytesIO(bytes(size)))


@pytest.mark.parametrize("name", ["Partitions.zip", "dtd-r1.0.1.tar.gz"])
def test_archives_that_grow_are_not_unpacked(tmp_path: Path, name: str) -> None:
    bomb(tmp_path / name, 300 * 2**20)  # of some 300 kB
    with pytest.raises(DataError, match="which is a bomb"):
        unpack(tmp_path / name, allowed_bytes=2**20)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_of_archives_are_refused(tmp_path: Path, kind: bytes) -> None:
    inner = tmp_path / "data"
    inner.mkdir()
    with tarfile.open(inner / "dtd-r1.0.1.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("x")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(DataError, match="cannot be unpacked"):
        parse_dataset(f"dtd={inner}", tmp_path).read("test")
    assert [entry.name for entry in inner.iterdir()] == ["dtd-r1.0.1.tar.gz"]


def test_files_of_archives_that_lie_are_named(tmp_path: Path) -> None:
    labels = struct.pack(">4Bi", 0, 0, 8, 1, 2) + bytes([3, 9])
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(labels)
    for content, message in (
        (struct.pack(">4B3i", 0, 0, 8, 3, 2**30, 2**30, 28) + b"x", "says that it holds"),
        (struct.pack(">4B3i", 0, 0, 8, 3, -1, 28, 28) + b"x", "says that it holds"),
        (struct.pack(">4B", 0, 0, 8, 255), "not as it was published"),
        (bytes(2**22), "not an idx file"),
    ):
        (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
        with pytest.raises(DataError, match=message):
            parse_dataset(f"mnist={tmp_path}", tmp_path).read("test")
    with pytest.raises(DataError, match="not an idx file"):
        read_idx(tmp_path / "t10k-images-idx3-ubyte", max_bytes=2**20)


def test_entities_in_annotations_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit" / "VOC2007"
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets" / "Main" / "test.txt").write_text("000001\n")
    laughs = '<!DOCTYPE a [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>'
    (root / "Annotations" / "000001.xml").write_text(laughs)
    with pytest.raises(DataError, match="defines entities"):
        parse_dataset(f"voc2007={tmp_path}", tmp_path).read("test")


def npy(shape: str) -> bytes:
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + b"\1\0"


@pytest.mark.parametrize(
    ("members", "shards", "message"),
    [
        ({"a.npy": npy("(2,)"), "b.npy": npy("(1000000000000,)")}, "1", "of shape (1000000000000,)"),
        ({"a.npy": npy("(2,)"), "b.npy": np.array([{}, {}], object).dumps()}, "1", "sample b cannot be read"),
        ({"a.cls": b"0", "b.cls": b"1" * 5000}, "1", "not a number below 2"),
        ({"a.cls": b"0", "b.cls": "\u0663".encode()}, "1", "not a number below 2"),
        ({"a.cls": b"0", "b.cls": b"1"}, "9" * 5000, "does not hold a number below a million"),
        ({"a.cls": b"0", "b.cls": b"1"}, "1000000000", "does not hold a number below a million"),
    ],
)
def test_numbers_in_benchmarks_are_bounded(
    tmp_path: Path, members: dict[str, bytes], shards: str, message: str
) -> None:
    pictures = {"a.png": picture("red", 0), "b.png": picture("green", 1)}
    folder = benchmark(tmp_path / "set", "classification", dict(sorted((pictures | members).items())))
    (folder / "test" / "nshards.txt").write_text(shards)
    done = CliRunner().invoke(app, ["evaluate", "--data", str(folder)])
    assert (done.exit_code, message in done.output, type(done.exception)) == (1, True, SystemExit), done.output


# --- packages of the corpus


def test_packages_of_impossible_sizes_are_refused(tmp_path: Path) -> None:
    header = "{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n".format("x", 0, 0, 0, 100644, -60)
    (tmp_path / "a.deb").write_bytes(b"!<arch>\n" + header.encode() * 3)
    with pytest.raises(ValueError, match="negative size"):
        read_members(tmp_path / "a.deb", lambda _: True)
    write_shard(tmp_path / "a.tgz", {"package/a": b"x" * 11})
    with pytest.raises(ValueError, match="more than a package"):
        read_members(tmp_path / "a.tgz", lambda _: True, max_member_bytes=10)


# --- prepare


def test_prepare_writes_only_into_its_folder(tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for key in ("../../up", "/abs", "..", "a/b"):
        members |= {f"{key}.png": picture("red", len(key)), f"{key}.txt": b"red"}
    write_shard(tmp_path / "in.tar", members)
    done = CliRunner().invoke(app, ["prepare", str(tmp_path / "in.tar"), "--to", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "a name that leads out of the archive: 4" in done.output
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "in.tar",
        "out",
        "out/train-000000.tar",
    ]


@pytest.mark.parametrize(("option", "value"), [("--encoding", "cp1252"), ("--delimiter", "~"), ("--quoting", "none")])
def test_prepare_takes_how_a_table_is_written(tmp_path: Path, option: str, value: str) -> None:
    (tmp_path / "a.png").write_bytes(picture("red", 0))
    texts: dict[str, Any] = {"--encoding": "image,text\na.png,café\n", "--delimiter": "image~text\na.png~café\n"}
    table = tmp_path / "t.csv"
    table.write_bytes(
        texts.get(option, 'image,text\na.png,"café"\n').encode("cp1252" if value == "cp1252" else "utf-8")
    )

    def captions(*options: str) -> bytes:
        done = CliRunner().invoke(app, ["prepare", str(table), "--to", str(tmp_path / "out"), "--overwrite", *options])
        if done.exit_code:
            return b""
        with tarfile.open(tmp_path / "out" / "train-000000.tar") as tar:
            return tar.extractfile("00000000.json").read()  # type: ignore[union-attr]

    assert captions(option, value) not in (b"", captions())
    refused = CliRunner().invoke(app, ["prepare", str(table), "--to", str(tmp_path / "o"), option, "nonsense"])
    assert (refused.exit_code, option[2:] in refused.output, type(refused.exception)) == (1, True, SystemExit)
