"""Shards, folders and files that are made to harm who reads them: refused or counted, with bounded memory."""

from __future__ import annotations

import os
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from model.data.tar_members import MAX_HEADER_BYTES
from tests.training.conftest import picture, write_shard
from tests.training.test_sources import read
from training.config import Source
from training.data.index import open_index
from training.data.shards import ShardError, read_shards

RED = picture("red", 0, (8, 8))
GOOD = {"good.png": RED, "good.txt": b"red"}


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE, **fields: Any) -> bytes:
    """A header, whatever it says."""
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    raw[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    raw[148:156] = b" " * 8
    raw[148:156] = f"{sum(raw[:512]):06o}\0 ".encode()
    return bytes(raw)


def with_good(file: Path, hostile: bytes) -> Path:
    """A sample, and behind it what is hostile."""
    write_shard(file, GOOD)
    content = file.read_bytes()[: 4 * 512]
    file.write_bytes(content + hostile + bytes(1024))
    return file


def test_members_that_lead_elsewhere_or_are_no_files_are_counted(tmp_path: Path) -> None:
    hostile = b""
    for name in ("../up", "/etc/abs", "a/../../b"):
        for suffix, data in (("png", RED), ("txt", b"red")):
            hostile += header(f"{name}.{suffix}", len(data)) + data + bytes(-len(data) % 512)
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
        hostile += header(f"x{kind.decode()}.png", 0, kind, linkname="/etc/passwd")
    for name in ("._a.png", "__MACOSX/._b.png", ".DS_Store", "sub/Thumbs.db", "@eaDir/c.jpg"):
        hostile += header(name, 3) + b"abc" + bytes(509)
    with_good(tmp_path / "a.tar", hostile)
    found, skipped = read(tmp_path, shards="a.tar")
    assert list(found) == ["a.tar/good"]
    assert not skipped.counts
    assert skipped.passed_over == {
        "a name that leads out of the archive": 6,
        "a link, a device or a sparse file": 5,
        "hidden or made by the system": 5,
    }
    assert [sample.key for sample in read_shards([tmp_path / "a.tar"])] == ["a.tar/good"]


@pytest.mark.parametrize(
    ("hostile", "cause"),
    [
        (header("x.png", 1 << 60), "cut short"),
        (header("x.png", -1), "cut short"),
        (header("x.png", -(1 << 40)), "cut short"),
        (header("x", 1 << 40, tarfile.XHDTYPE), "a header of"),
        (header("x", 1 << 40, tarfile.GNUTYPE_LONGNAME), "a header of"),
        (header("x", -512, tarfile.XHDTYPE), "a header of"),
        (header("x", MAX_HEADER_BYTES + 1, tarfile.XGLTYPE), "a header of"),
        (b"".join(header("x", 0, tarfile.XHDTYPE) for _ in range(5000)), "recursion"),
    ],
)
def test_sizes_and_headers_that_lie_are_damage(tmp_path: Path, hostile: bytes, cause: str) -> None:
    with_good(tmp_path / "a.tar", hostile)
    found, skipped = read(tmp_path, shards="a.tar")
    assert list(found) == ["a.tar/good"]
    assert dict(skipped.counts) == {"damaged file": 1}
    assert cause in skipped.examples["damaged file"]
    with pytest.raises(ShardError, match="cannot be read as a tar file"):
        list(read_shards([tmp_path / "a.tar"]))


def pax(**records: str) -> bytes:
    body = b""
    for name, value in records.items():
        record = f" {name}={value}\n".encode()
        length = len(record) + 1
        while len(str(length)) + len(record) != length:
            length = len(str(length)) + len(record)
        body += str(length).encode() + record
    return header("pax", len(body), tarfile.XHDTYPE) + body + bytes(-len(body) % 512)


@pytest.mark.parametrize("size", ["-1", "-2", "-1024", str(1 << 62), "9" * 5000])
def test_a_pax_record_does_not_decide_what_is_read(tmp_path: Path, size: str) -> None:
    with_good(tmp_path / "a.tar", pax(size=size) + header("x.png", 5) + b"x" * 512)
    found, skipped = read(tmp_path, shards="a.tar")
    assert list(found) == ["a.tar/good"]
    assert skipped.counts["damaged file"] == 1


def test_an_extended_header_of_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    with (tmp_path / "a.tar").open("wb") as file:  # a hole on the disk, but bytes for who reads it
        file.write(header("x", 8 << 30, tarfile.XHDTYPE))
        file.truncate((8 << 30) + 2048)
    _bounded(lambda: read(tmp_path, shards="a.tar"), 50)


def test_a_text_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.tar").open("wb") as file:
        file.write(header("x.png", len(RED)) + RED + bytes(-len(RED) % 512) + header("x.json", 1 << 30))
        file.truncate(file.tell() + (1 << 30) + 1024)
    found, skipped = _bounded(lambda: read(tmp_path, shards="a.tar"), 50)
    assert not found
    assert skipped.passed_over == {"a text of more than 16,777,216 bytes": 1}


def test_many_members_take_little_memory(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(header("x.bin", 0) * 200_000 + bytes(1024))
    _bounded(lambda: read(tmp_path, shards="a.tar"), 100)
    (tmp_path / "b.tar").write_bytes(b"".join(header(f"x.{n}", 0) for n in range(110_000)) + bytes(1024))
    assert "more than 100,000 members" in read(tmp_path, shards="b.tar")[1].examples["damaged file"]


def _bounded(work: Any, mebibytes: int) -> Any:
    """The result of `work`, which may add so much to the peak of this process."""
    status = Path("/proc/self/status")
    Path("/proc/self/clear_refs").write_text("5")  # begin a new peak

    def peak() -> int:
        return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1])

    before = peak()
    result = work()
    assert peak() - before < mebibytes * 1024
    return result


def test_pipes_and_folders_for_files_are_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    os.mkfifo(tmp_path / "t.csv")
    os.mkfifo(tmp_path / "t.parquet")
    (tmp_path / "d.tar").mkdir()
    (tmp_path / "set").mkdir()
    os.mkfifo(tmp_path / "set" / "a.png")
    (tmp_path / "set" / "b.png").write_bytes(RED)
    os.mkfifo(tmp_path / "set" / "b.txt")
    failures: list[str] = []

    def work() -> None:
        for source in ({"shards": "a.tar"}, {"shards": "d.tar"}, {"table": "t.csv"}, {"table": "t.parquet"}):
            try:
                open_index(Source(**source), tmp_path)
            except ShardError as error:
                failures.append(str(error))
        failures.append(str(read(tmp_path, folder="set")[1].remarks()))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert all("no regular file" in failure for failure in failures[:4]), failures
    assert "no file but a pipe, socket or device: 2" in failures[4]


def test_links_in_a_circle_are_walked_once(tmp_path: Path) -> None:
    (tmp_path / "set" / "dog" / "more").mkdir(parents=True)
    (tmp_path / "set" / "dog" / "a.png").write_bytes(RED)
    (tmp_path / "set" / "dog" / "more" / "up").symlink_to(tmp_path / "set")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.png").write_bytes(RED)
    (tmp_path / "set" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "gone.png").symlink_to(tmp_path / "nowhere")
    found, skipped = read(tmp_path, folder="set")
    assert {key: label for key, (_, _, label) in found.items()} == {"set/cat/b.png": "cat", "set/dog/a.png": "dog"}
    assert skipped.passed_over["a link to a folder that is read already"] == 1
    assert skipped.passed_over["cannot be looked at (No such file or directory)"] == 1


def test_a_picture_of_terabytes_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "set" / "dog").mkdir(parents=True)
    with (tmp_path / "set" / "dog" / "a.png").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="larger than"):
        read(tmp_path, folder="set")
