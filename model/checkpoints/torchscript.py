"""TorchScript archives, the files that OpenAI published, read without running anything in them.

`torch.jit.load` compiles the source code that such an archive holds, and its data is a pickle. Here the pickle is
interpreted symbolically and the weights are taken from where it says that they lie.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.pickles import Call, Instance, Name, PickleError, Stored, interpret
from model.checkpoints.torch_zip import TorchZip
from model.config import Activation

_PICKLE_BYTES = 64 << 20
_CODE_BYTES = 16 << 20
_MAX_DEPTH = 64
_MAX_NODES = 1_000_000
_DTYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class Archive:
    """The weights of an archive, and what its source code says of the activation."""

    state: dict[str, Tensor]  # under the names of `state_dict()`
    activation: Activation | None


def is_archive(zipped: TorchZip) -> bool:
    """Whether this is TorchScript, and not a file of `torch.save`."""
    return "constants.pkl" in zipped.names()


def read(zipped: TorchZip) -> Archive:
    """The tensors, backed by the file: they take memory only where they are used. Raises CheckpointError."""
    try:
        root = interpret(zipped.read("data.pkl", _PICKLE_BYTES))
    except PickleError as error:
        raise CheckpointError(f"{zipped.file}: data.pkl is not a pickle of torch: {error}") from error
    if "byteorder" in zipped.names() and zipped.read("byteorder", 16) != b"little":
        raise CheckpointError(f"{zipped.file} was written by a big-endian machine, whose byte order is not supported")
    if not isinstance(root, Instance):
        raise CheckpointError(f"{zipped.file} holds no module")
    state: dict[str, Tensor] = {}
    for name, value in _leaves(zipped.file, root):
        if name in state:
            raise CheckpointError(f"{zipped.file} has two tensors of the name {name}")
        state[name] = _tensor(zipped, name, value)
    return Archive(state, _activation(zipped))


def _leaves(file: Path, root: Instance) -> Iterator[tuple[str, Call]]:
    """Names and descriptions of the tensors of a tree of modules; one that stands in two places has two names."""
    waiting = [("", 0, root)]
    seen = 0
    while waiting:
        prefix, depth, module = waiting.pop()
        seen += len(module.state)
        if depth > _MAX_DEPTH or seen > _MAX_NODES:
            raise CheckpointError(f"{file} has modules nested without end")
        for key, value in module.state.items():
            if isinstance(value, Instance):
                waiting.append((f"{prefix}{key}.", depth + 1, value))
            elif isinstance(value, Call) and _is_tensor(value):
                yield f"{prefix}{key}", value


def _is_tensor(call: Call) -> bool:
    return isinstance(call.function, Name) and call.function.path.startswith("torch._utils._rebuild_")


def _tensor(zipped: TorchZip, name: str, call: Call) -> Tensor:
    where = f"{zipped.file}: {name}"
    if call.function != Name("torch._utils._rebuild_tensor_v2"):
        kind = call.function.path.removeprefix("torch._utils._rebuild_")
        raise CheckpointError(f"{where} is stored as {kind}, which is not supported: only plain tensors are")
    match call.arguments:
        case (Stored(("storage", Name(kind), str(key), str(), int())), int(offset), tuple(shape), tuple(stride), *_):
            pass
        case _:
            raise CheckpointError(f"{where} is described in a way that torch does not")
    if kind not in _DTYPES:
        raise CheckpointError(f"{where} is a {kind}, which is not supported")
    dtype = _DTYPES[kind]
    start, length = zipped.place(f"data/{key}")
    available = length // dtype.itemsize
    if not _fits(available, offset, shape, stride):
        raise CheckpointError(f"{where} is larger than what is stored of it: the file is damaged")
    if not available:
        return torch.empty(shape, dtype=dtype)
    flat = torch.frombuffer(zipped.content, dtype=dtype, count=available, offset=start)
    return flat.as_strided(shape, stride, offset)


def _fits(available: int, offset: int, shape: tuple[Any, ...], stride: tuple[Any, ...]) -> bool:
    """Whether every element lies within so many; a shape that repeats elements is as large as it looks."""
    numbers = (offset, *shape, *stride)
    if len(shape) != len(stride) or len(shape) > 8 or not all(type(n) is int and 0 <= n < 2**62 for n in numbers):
        return False
    elements: int = math.prod(shape)
    last: int = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    return elements == 0 or (last < available and elements <= available)


def _activation(zipped: TorchZip) -> Activation | None:
    """Told from calls in the source code, which is looked at as text."""
    calls = set(re.findall(rb"torch\.(gelu|sigmoid)\(|(approximate=\"tanh\")", zipped.source_code(_CODE_BYTES)))
    found = {first or second for first, second in calls}
    known: dict[frozenset[bytes], Activation] = {
        frozenset({b"sigmoid"}): "quick_gelu",
        frozenset({b"gelu"}): "gelu",
        frozenset({b"gelu", b'approximate="tanh"'}): "gelu_tanh",
    }
    return known.get(frozenset(found))
