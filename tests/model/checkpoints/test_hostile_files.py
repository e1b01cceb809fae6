"""Files that are damaged, forged or full of code: refused with the reason, and nothing in them is executed."""

from __future__ import annotations

import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.weights import read_weights
from tests.model.checkpoints.forging import Code, Entries, entries, refused, write

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

STORAGE = "linear/data/0"
PICKLE = "linear/data.pkl"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TorchScript archive with a weight of [3, 5] and a bias of [3]."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("archive") / "linear.pt"
    torch.jit.save(torch.jit.script(nn.Linear(5, 3)), file)
    return file


def test_an_archive_that_was_packed_again_is_read(archive: Path, tmp_path: Path) -> None:
    """What the forgeries below are made by spoils nothing by itself."""
    again = read_weights(write(tmp_path / "again.pt", entries(archive)))
    assert all(torch.equal(again[name], tensor) for name, tensor in read_weights(archive).items())


def test_code_in_an_archive_is_named_and_not_run(archive: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    forged = entries(archive) | {PICKLE: pickle.dumps(Code(made), protocol=2)}
    assert "would run posix.mkdir when unpickled: refused" in refused(write(tmp_path / "evil.pt", forged))
    assert not made.exists()


def without(name: str) -> Callable[[Entries], Entries]:
    return lambda content: {key: data for key, data in content.items() if key != name}


def replaced(old: bytes, new: bytes) -> Callable[[Entries], Entries]:
    def forge(content: Entries) -> Entries:
        assert content[PICKLE].count(old) >= 1
        return content | {PICKLE: content[PICKLE].replace(old, new, 1)}

    return forge


def pickled(*instructions: bytes) -> Callable[[Entries], Entries]:
    return lambda content: content | {PICKLE: b"\x80\x02" + b"".join(instructions)}


MODULE = b"c__torch__\nLinear\n)\x81"
NESTED = MODULE + b"".join(b"}X\x01\x00\x00\x00a" + MODULE for _ in range(100)) + b"sb" * 100 + b"."
# Each module holds the one before it twice: a tree of 2^60 leaves in a few hundred bytes.
DOUBLED = (
    MODULE
    + b"q\x00"
    + b"".join(
        MODULE
        + b"}X\x01\x00\x00\x00ah%cX\x01\x00\x00\x00bh%cub".replace(b"}", b"}(") % (level, level)
        + b"q%c" % (level + 1)
        for level in range(60)
    )
    + b"."
)
ENDLESS = MODULE + b"q\x00}X\x01\x00\x00\x00ah\x00sb."


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (without(STORAGE), "no entry 'data/0'"),
        (without(PICKLE), "zip file without weights"),
        (lambda content: content | {"other/data.pkl": b""}, "zip file without weights"),
        (lambda content: content | {STORAGE: content[STORAGE][:-4]}, "larger than what is stored"),
        (lambda content: content | {STORAGE: b""}, "larger than what is stored"),
        (lambda content: content | {"linear/byteorder": b"big"}, "big-endian"),
        (replaced(b"K\x03K\x05t", b"K\x04K\x05t"), "larger than what is stored"),
        (replaced(b"K\x03K\x05t", b"K\x03J\xff\xff\xff\xfft"), "larger than what is stored"),
        (replaced(b"K\x03K\x05t", b"K\x03\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7ft"), "larger than what is stored"),
        (replaced(b"(K\x05K\x01t", b"(K\x7fK\x01t"), "larger than what is stored"),
        (replaced(b"FloatStorage", b"QInt8Storage"), "not supported"),
        (replaced(b"_rebuild_tensor_v2", b"_rebuild_qtensor"), "stored as qtensor"),
        (replaced(b"_rebuild_tensor_v2", b"_rebuild_tensor_v9"), "stored as tensor_v9"),
        (replaced(b"X\x07\x00\x00\x00storage", b"X\x07\x00\x00\x00forgery"), "described in a way"),
        (replaced(b"X\x01\x00\x00\x000", b"X\x0a\x00\x00\x00../../etc/"), "no entry 'data/../../etc/'"),
        (replaced(b"ctorch\n", b"cbuiltins\n"), "would run builtins.FloatStorage"),
        (pickled(b"."), "damaged"),
        (pickled(b"K\x05."), "holds no module"),
        (pickled(b"(t"), "damaged"),
        (pickled(b"\x80\x04N."), "protocol 4"),
        (pickled(b"(cos\nsystem\nX\x02\x00\x00\x00lso."), "would run os.system"),
        (pickled(b"(X\x02\x00\x00\x00lsios\nsystem\n."), "instruction INST"),
        (pickled(b"X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93."), "instruction STACK_GLOBAL"),
        (pickled(b"\x82\x01."), "instruction EXT1"),
        (pickled(b"Pname\n."), "instruction PERSID"),
        (pickled(b"I" + b"9" * 9999 + b"\n."), "damaged"),
        (pickled(b"h\x09."), "damaged"),
        (pickled(b"((t\x85R."), "mark"),
        (pickled(b"}(K\x01s."), "mark"),
        (pickled(b"NNb."), "in the place of"),
        (pickled(b"})Ns."), "as a key"),
        (pickled(b"X\xff\xff\xff\x7fabc."), "damaged"),
        (pickled(b"\xff."), "damaged"),
        (pickled(b"N" * 2_000_001, b"."), "instructions"),
        (pickled(b")" + b"\x85" * 200_000 + b"."), "holds no module"),
        (pickled(NESTED), "nested without end"),
        (pickled(DOUBLED), "nested without end"),
        (pickled(ENDLESS), "nested without end"),
        (pickled(b"X\x00\x00\x00\x05" + b"x" * (65 << 20)), "more than the"),
    ],
)  # fmt: skip
def test_a_forged_archive_is_refused(
    archive: Path, tmp_path: Path, forge: Callable[[Entries], Entries], reason: str
) -> None:
    assert reason in refused(write(tmp_path / "forged.pt", forge(entries(archive))))


@pytest.mark.parametrize("kind", ["archive", "zip", "legacy", "safetensors"])
def test_no_beginning_of_a_file_is_taken_for_the_file(archive: Path, tmp_path: Path, kind: str) -> None:
    whole, cut = tmp_path / "whole.pt", tmp_path / "cut.pt"
    if kind == "archive":
        whole = archive
    elif kind == "safetensors":
        whole, cut = whole.with_suffix(".safetensors"), cut.with_suffix(".safetensors")
        save_file({"weight": torch.randn(3, 5), "bias": torch.randn(3)}, whole)
    else:
        torch.save(dict(nn.Linear(5, 3).state_dict()), whole, _use_new_zipfile_serialization=kind == "zip")
    content = whole.read_bytes()
    for length in [*range(0, len(content), max(1, len(content) // 60)), len(content) - 1]:
        cut.write_bytes(content[:length])
        refused(cut)


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_archive_is_refused_or_read_and_never_crashes(archive: Path, tmp_path: Path, seed: int) -> None:
    """Whatever bytes change: where a reader cannot tell, tensors come out, none larger than the file."""
    draw = random.Random(seed)
    content, file = archive.read_bytes(), tmp_path / "damaged.pt"
    for _ in range(250):
        damaged = bytearray(content)
        for _ in range(draw.choice((1, 1, 4, 64))):
            damaged[draw.randrange(len(damaged))] = draw.choice((0, 255, draw.randrange(256)))
        file.write_bytes(damaged)
        try:
            state = read_weights(file)
        except CheckpointError:
            continue
        assert all(tensor.clone().shape == tensor.shape for tensor in state.values())  # every byte can be read
        assert sum(tensor.numel() * tensor.element_size() for tensor in state.values()) <= 2 * len(content)


def test_compressed_weights_are_refused_before_they_are_decompressed(archive: Path, tmp_path: Path) -> None:
    bomb = entries(archive) | {STORAGE: bytes(64 << 20)}
    file = write(tmp_path / "bomb.pt", bomb, zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 1 << 20
    assert "compressed" in refused(file)


def test_source_code_that_is_a_bomb_is_looked_at_only_in_part(archive: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "bomb.pt", entries(archive))
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as forged:
        forged.writestr("linear/code/bomb.py", bytes(64 << 20))
    assert set(read_weights(file)) == {"weight", "bias"}


def test_two_entries_of_one_name_are_refused(archive: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "double.pt", entries(archive))
    with zipfile.ZipFile(file, "a") as forged, pytest.warns(UserWarning, match="Duplicate"):
        forged.writestr(STORAGE, bytes(60))
    assert "two entries of one name" in refused(file)


def test_entries_that_overlap_are_refused(archive: Path, tmp_path: Path) -> None:
    """A thousand entries that all point to the same bytes would be a file of any size."""
    file = write(tmp_path / "overlap.pt", entries(archive) | {"linear/big": bytes(100_000)})
    with zipfile.ZipFile(file, "a") as forged:
        (big,) = (entry for entry in forged.filelist if entry.filename == "linear/big")
        for number in range(20):
            copy = zipfile.ZipInfo(f"linear/big{number}")
            for field in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(copy, field, getattr(big, field))
            forged.filelist.append(copy)
        forged._didModify = True
    assert "overlap" in refused(file)


def test_a_table_of_entries_without_end_is_not_read(archive: Path, tmp_path: Path) -> None:
    file = tmp_path / "table.pt"
    with zipfile.ZipFile(file, "w") as forged:
        for number in range(60_000):
            forged.writestr(f"linear/{number:05}" + "x" * 60, b"")
    assert "table of entries" in refused(file)
