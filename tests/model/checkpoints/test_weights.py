"""Weights read from files of every kind, and files that are something else."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.importer import read_checkpoint
from model.checkpoints.weights import find_weights, read_weights
from tests.model.checkpoints.forging import Code, entries, refused, write

# A safetensors file that promises nine numbers and has none.
BEYOND = struct.pack("<Q", 56) + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'.ljust(56)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_torch_file_is_named_and_not_run(tmp_path: Path, legacy: bool) -> None:
    made = tmp_path / "made"
    torch.save({"weight": Code(made)}, tmp_path / "evil.pt", _use_new_zipfile_serialization=not legacy)
    assert "would run posix.mkdir when unpickled: refused, nothing was executed" in refused(tmp_path / "evil.pt")
    assert not made.exists()


def test_code_in_shards_is_not_run(tmp_path: Path) -> None:
    made = tmp_path / "made"
    torch.save({"weight": Code(made)}, tmp_path / "pytorch_model-1.bin")
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"weight": "pytorch_model-1.bin"}}))
    with pytest.raises(CheckpointError, match=r"posix\.mkdir"):
        read_weights(find_weights(tmp_path, ["model.safetensors", "pytorch_model.bin"]))
    assert not made.exists()


def test_a_whole_module_is_refused_by_its_class(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    assert "would run torch.nn.modules.linear.Linear" in refused(tmp_path / "module.pt")


def test_compressed_entries_of_a_torch_file_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(4)}, tmp_path / "plain.pt")
    bomb = entries(tmp_path / "plain.pt") | {"plain/data/0": bytes(64 << 20)}
    assert "compressed" in refused(write(tmp_path / "bomb.pt", bomb, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(1 << 20, 1 << 20),
        torch.zeros(1).as_strided((1 << 40,), (0,)),
        torch.eye(3).to_sparse(),
        torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        torch.empty(1 << 40, device="meta"),
    ],
    ids=["expanded", "strided", "sparse", "quantised", "meta"],
)
@pytest.mark.parametrize("inner", [False, True])
def test_tensors_that_are_not_what_they_seem_are_refused(tmp_path: Path, tensor: torch.Tensor, inner: bool) -> None:
    content = {"weight": tensor}
    torch.save({"state_dict": content} if inner else content, tmp_path / "odd.pt")
    assert "weight" in refused(tmp_path / "odd.pt")


def test_the_same_bytes_under_many_names_are_refused(tmp_path: Path) -> None:
    shared = torch.zeros(1000)
    torch.save({f"weight{number}": shared for number in range(1000)}, tmp_path / "shared.pt")
    assert "larger than what is stored" in refused(tmp_path / "shared.pt")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.pt", b"", "is empty"),
        ("page.pt", b"<!DOCTYPE html><html>", "is not a checkpoint: .* download it again"),
        ("pointer.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("pointer.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("zip.pt", b"PK\x03\x04", "no whole zip file"),
        ("empty.safetensors", b"", "is empty"),
        ("length.safetensors", struct.pack("<Q", 1 << 62) + b"{}", "cannot be read"),
        ("beyond.safetensors", BEYOND, "cannot be read: .*: download it again"),
        ("list.pt", None, "holds a list"),
        ("text.pt", pickle.dumps("text"), "cannot be read"),
        ("deep.pt", b"\x80\x02" + b"(" * 100_000, "cannot be read"),
        ("tuples.pt", b"\x80\x02" + b")" + b"\x85" * 200_000 + b".", "is not a checkpoint"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    file = tmp_path / name
    if content is None:
        torch.save([torch.ones(1)], file)
    else:
        file.write_bytes(content)
    said = refused(file)
    assert re.search(reason, said)
    assert "weights_only" not in said, "this repeats torch's advice to run the file all the same"
    with pytest.raises(CheckpointError, match=reason):
        read_checkpoint(file, Options())


def test_a_tar_file_of_the_first_torch_is_refused_by_its_age(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "old.pt", "w") as old:
        for name in ("storages", "tensors", "pickle"):
            old.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert "tar file of torch 0.1" in refused(tmp_path / "old.pt")


def test_a_folder_and_a_file_that_is_not_there_are_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path)
    assert "cannot be read" in refused(tmp_path / "missing.pt")


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_are_read_as_one(tmp_path: Path, suffix: str) -> None:
    whole = {f"layer{n}": torch.randn(n + 1) for n in range(4)}
    places = {name: f"model-{number % 2}.{suffix}" for number, name in enumerate(whole)}
    for shard in set(places.values()):
        part = {name: tensor for name, tensor in whole.items() if places[name] == shard}
        save_file(part, tmp_path / shard) if suffix == "safetensors" else torch.save(part, tmp_path / shard)
    (tmp_path / f"model.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    found = find_weights(tmp_path, ["other.bin", f"model.{suffix}"])
    read = read_weights(found)
    assert set(read) == set(whole)
    assert all(torch.equal(read[name], tensor) for name, tensor in whole.items())


def test_files_are_found_in_the_order_of_preference(tmp_path: Path) -> None:
    names = ["model.safetensors", "pytorch_model.bin"]
    with pytest.raises(CheckpointError, match=r"none of model\.safetensors, pytorch_model\.bin"):
        find_weights(tmp_path, names)
    for file in ("pytorch_model.bin", "model.safetensors.index.json", "model.safetensors"):
        (tmp_path / file).touch()
        assert find_weights(tmp_path, names).name == file


@pytest.mark.parametrize(
    ("weight_map", "reason"),
    [
        ({"weight": "../outside.safetensors"}, "beside it"),
        ({"weight": "/etc/outside.safetensors"}, "beside it"),
        ({"weight": "inner/shard.safetensors"}, "beside it"),
        ({"weight": "shard.pkl"}, "beside it"),
        ({"weight": 5}, "beside it"),
        ({"weight": "missing.safetensors"}, "cannot be read"),
        ({"weight": "shard.safetensors", "bias": "shard.safetensors"}, "promises bias"),
        ({}, "no weight_map"),
        ([], "no weight_map"),
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(tmp_path: Path, weight_map: Any, reason: str) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "outside.safetensors")
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    save_file({"weight": torch.zeros(2)}, folder / "shard.safetensors")
    save_file({"weight": torch.zeros(2)}, folder / "inner" / "shard.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(CheckpointError, match=reason):
        read_weights(index)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 200_000, "\udce9"])
def test_an_index_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match="index"):
        read_weights(index)


BOMB = b"\x80\x02}X\x01\x00\x00\x00ac__builtin__\nbytearray\nJ\x00\x00\x00\x40\x85Rs."  # a gigabyte of nothing


@pytest.mark.parametrize("legacy", [False, True])
def test_what_torch_allows_and_makes_no_tensors_is_refused(tmp_path: Path, legacy: bool) -> None:
    torch.save({"a": 5}, tmp_path / "plain.pt", _use_new_zipfile_serialization=not legacy)
    if legacy:
        content = (tmp_path / "plain.pt").read_bytes()
        plain = pickle.dumps({"a": 5}, protocol=2)
        assert plain in content
        (tmp_path / "bomb.pt").write_bytes(content.replace(plain, BOMB))
    else:
        write(tmp_path / "bomb.pt", entries(tmp_path / "plain.pt") | {"plain/data.pkl": BOMB})
    assert "would run __builtin__.bytearray when unpickled: refused" in refused(tmp_path / "bomb.pt")


def test_a_second_entry_in_capitals_is_refused(tmp_path: Path) -> None:
    """torch finds either, the check only one."""
    torch.save({"a": 5}, tmp_path / "plain.pt")
    write(tmp_path / "bomb.pt", entries(tmp_path / "plain.pt") | {"plain/DATA.PKL": BOMB})
    assert "two entries of one name" in refused(tmp_path / "bomb.pt")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_bare_pickle_is_named_without_a_warning_of_torch(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "raw.pt").write_bytes(pickle.dumps({"weight": Code(tmp_path / "made")}, protocol))
    assert "would run posix.mkdir when unpickled: refused, nothing was executed" in refused(tmp_path / "raw.pt")
    assert not (tmp_path / "made").exists()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("archive", [False, True])
def test_each_byte_is_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: bool) -> None:
    """Weights of which two layers share one storage."""
    network, checked = nn.Linear(64, 64), []
    network.register_buffer("same", network.weight.detach())
    file = tmp_path / "network.pt"
    torch.jit.save(torch.jit.script(network), file) if archive else torch.save(network.state_dict(), file)
    crc32 = zlib.crc32
    monkeypatch.setattr("model.checkpoints.torch_zip.zlib.crc32", lambda data: checked.append(len(data)) or crc32(data))
    with pytest.raises(CheckpointError):
        read_checkpoint(file, Options())
    assert checked.count(4 * 64 * 64) == 1
