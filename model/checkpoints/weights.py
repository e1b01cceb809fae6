"""Tensors by name from the files that checkpoints come in. Nothing that a file holds is executed."""

from __future__ import annotations

import io
import mmap
import re
import tarfile
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model.checkpoints import torchscript
from model.checkpoints.checkpoint import CheckpointError, naming
from model.checkpoints.folders import read_object
from model.checkpoints.pickles import PickleError, imports
from model.checkpoints.torch_zip import MAGIC, TorchZip
from model.checkpoints.torchscript import Archive
from model.checkpoints.wrappers import dictionaries

INDEX = ".index.json"
_GIT_LFS_POINTER = b"version https://git-lfs"
_PICKLE_BYTES = 256 << 20
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # a number that torch wrote before it wrote zip files
_LEGACY_PICKLES = 5  # that number, the version, the machine, the content, and the names of what follows
# What makes tensors of bytes that are there. torch allows more, bytearray for one, which makes gigabytes of nothing.
_HARMLESS = re.compile(
    r"torch\._utils\._rebuild_\w+|torch\.[A-Z]\w+Storage|torch\.(?:b?float|u?int|bool|complex|qu?int|per_)\w*"
    r"|torch\.Size|torch\.device|torch\.serialization\._get_layout|collections\.OrderedDict"
)


def find_weights(folder: Path, names: Sequence[str]) -> Path:
    """The first of the files of those names in a folder, whole or as the index of its shards, for `read_weights`."""
    for name in names:
        for file in (folder / name, folder / f"{name}{INDEX}"):
            if file.is_file():
                return file
    raise CheckpointError(f"{folder} has no weights: none of {', '.join(names)}, whole or in shards with {INDEX[1:]}")


def read_weights(file: Path) -> dict[str, Tensor]:
    """Tensors of a file of nothing but tensors: safetensors, torch, or the `.index.json` of shards of either."""
    if file.name.endswith(INDEX):
        return _read_shards(file)
    content = read_file(file)
    with naming(file):
        return only_tensors(content)


def only_tensors(content: dict[str, Any]) -> dict[str, Tensor]:
    """The same. Raises CheckpointError naming what is no tensor."""
    odd = next((name for name, value in content.items() if not isinstance(value, Tensor)), None)
    if odd is not None:
        raise CheckpointError(f"this holds more than tensors: {odd!r} is a {type(content[odd]).__name__}")
    return content


def read_file(file: Path) -> dict[str, Any]:
    """The dictionary in a file: tensors, and in a training checkpoint also numbers, names and further dictionaries.

    The tensors are backed by the file where its format allows that, and take memory only where they are used.
    """
    content = read_content(file)
    return dict(content.state) if isinstance(content, Archive) else content


def read_content(file: Path) -> Archive | dict[str, Any]:
    """A TorchScript archive as such, and what `read_file` gives of a file of any other kind."""
    if file.name.endswith(INDEX):
        return _read_shards(file)
    if _is_zip(file):
        zipped = TorchZip(file)
        if torchscript.is_archive(zipped):
            archive = torchscript.read(zipped)
            _check_extent(file, archive.state.items())
            return archive
        zipped.expect_stored()
        _refuse_code(file, io.BytesIO(zipped.read("data.pkl", _PICKLE_BYTES)), 1)
        content = _unpickle(file, mapped=True)
    elif file.suffix == ".safetensors" or _begins_as_safetensors(file):
        content = _read_safetensors(file)
    else:
        _expect_legacy(file)
        content = _unpickle(file, mapped=False)
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds a {type(content).__name__}, not a dictionary of tensors")
    for _, inner in dictionaries(content):
        _check_extent(file, inner.items())
    return content


def _is_zip(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            head = stream.read(len(_GIT_LFS_POINTER))
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    if not head:
        raise CheckpointError(f"{file} is empty: download it again")
    if head == _GIT_LFS_POINTER:
        raise CheckpointError(f"{file} is a pointer of Git LFS and not the file: fetch it with `git lfs pull`")
    return head.startswith(MAGIC)


def _begins_as_safetensors(file: Path) -> bool:
    """Whatever its name: the length of a header in JSON, and that."""
    with file.open("rb") as stream:
        length, head = int.from_bytes(stream.read(8), "little"), stream.read(2)
    return head == b'{"' and length < file.stat().st_size


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except (OSError, SafetensorError, ValueError, RuntimeError, LookupError, AttributeError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}: download it again") from error
    return tensors


def _expect_legacy(file: Path) -> None:
    """Refuse what torch did not write before it wrote zip files."""
    if tarfile.is_tarfile(file):
        raise CheckpointError(
            f"{file} is a tar file of torch 0.1: load it with a torch of before 2.6, and save it as safetensors"
        )
    # Of a mapped file no piece is read that is larger than the file.
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        legacy = content[: len(_LEGACY)] == _LEGACY
        if legacy or content[:1] == _LEGACY[:1]:
            _refuse_code(file, cast("IO[bytes]", content), _LEGACY_PICKLES if legacy else 1)
    if not legacy:
        raise CheckpointError(
            f"{file} is not a checkpoint: it is neither of safetensors nor of torch. If it should be, download it again"
        )


def _refuse_code(file: Path, stream: IO[bytes], pickles: int) -> None:
    """Refuse what would be imported and does not make tensors."""
    try:
        for name in chain.from_iterable(imports(stream) for _ in range(pickles)):
            if not _HARMLESS.fullmatch(name):
                raise CheckpointError(
                    f"{file} would run {name:.100} when unpickled: refused, nothing was executed. If the file is "
                    "yours, save its state_dict again as safetensors"
                )
    except PickleError as error:
        raise CheckpointError(f"{file} cannot be read as a file of torch: {error}") from error


def _unpickle(file: Path, *, mapped: bool) -> Any:
    """With torch's own reader of nothing but weights, which imports and calls only what makes tensors."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    # A forged pickle makes the reader fail in any way that Python knows.
    except Exception as error:
        # Without torch's advice to run the file all the same.
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{file} cannot be read as a file of torch: {reason}") from error


def _read_shards(index: Path) -> dict[str, Tensor]:
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{index} has no weight_map: it does not say in which shards the tensors are")
    tensors: dict[str, Tensor] = {}
    for shard in sorted({str(shard) for shard in places.values()}):
        if not re.fullmatch(r"[\w.-]+\.(safetensors|bin)", shard):
            raise CheckpointError(f"{index} names a shard {shard!r}: shards are .safetensors or .bin files beside it")
        tensors |= read_weights(index.with_name(shard))
    missing = sorted(set(places) - set(tensors))
    if missing:
        raise CheckpointError(f"{index} promises {missing[0]} in {places[missing[0]]}, which does not have it")
    return tensors


def _check_extent(file: Path, items: Iterable[tuple[Any, Any]]) -> None:
    """Nothing may be larger in memory than in the file: strides of zero make a terabyte of four bytes.

    Weights that two layers share count once for each.
    """
    total = 0
    for name, tensor in items:
        if not isinstance(tensor, Tensor):
            continue
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise CheckpointError(f"{file}: {name} is sparse, quantised or empty: only plain tensors are supported")
        size = tensor.numel() * tensor.element_size()
        total += size
        if size > tensor.untyped_storage().nbytes() or total > 2 * file.stat().st_size:
            raise CheckpointError(f"{file}: {name} is larger than what is stored of it: the file is damaged")
