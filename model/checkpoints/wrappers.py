"""What trainers put around the weights of a model: dictionaries in dictionaries, and prefixes before the names.

Models are found by what every CLIP has, wherever it stands: the token embedding of its text tower, and the patch
embedding (or first convolution) of its picture tower, under the names of one of the known layouts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from torch import Tensor

from model.checkpoints.adapters import refuse_adapter_tensors
from model.checkpoints.checkpoint import CheckpointError

# Put into names by DDP, torch.compile, FSDP, activation checkpointing, Lightning and TinyCLIP, at any depth.
SEGMENTS = re.compile(
    r"(?:(?<=^)|(?<=\.))(?:(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module"
    r"|_image_encoder|_text_encoder|_logit_scale)\.)+"
)
# By layout: text tower, picture tower. What stands before is the prefix.
ANCHORS = {
    "OpenAI's": (r"(?:text\.)?token_embedding\.weight", r"visual\.(?:conv1\.weight|trunk\..+)"),
    "transformers'": (
        r"text_model\.embeddings\.token_embedding\.weight",
        r"vision_model\.embeddings\.patch_embedding\.weight",
    ),
}
_AVERAGE = re.compile(r"(?:^|[._])(?:ema|swa|shadow|averaged?)(?:[._]|$)", re.IGNORECASE)
_COUNTERS = {"n_averaged"}  # of torch's AveragedModel
_MAX_DEPTH = 4
_MAX_DICTIONARIES = 10_000
_MAX_REPEATED = 200_000  # names, of dictionaries that stand in more places than one
_MAX_SEGMENTS, MAX_NAME = 32, 1000  # of what is looked at of a name
_MAX_SHOWN = 200  # characters of a name
_EXAMPLES = 5  # of what there may be any number of, in a message


@dataclass(frozen=True)
class Unwrapped:
    """The state dictionary of one model, under the names of its layout."""

    state: dict[str, Any]
    layout: str
    path: tuple[str, ...] = ()  # of the dictionary in the file
    prefix: str = ""  # which its names had
    warnings: list[str] = field(default_factory=list)

    def described(self) -> str:
        """What was taken off, for people; empty where nothing was."""
        within = "".join(f"[{key!r}]" for key in self.path)
        parts = [f"the dictionary {within}"] if within else []
        return ", ".join(parts + ([f"names without {self.prefix!r}"] if self.prefix else []))


@dataclass(frozen=True)
class Candidate:
    """What may be the model of a file: a dictionary, and the prefix that names of the model have in it."""

    path: tuple[str, ...]
    names: Mapping[Any, Any]
    prefix: str
    layout: str
    address: int  # of one of its tensors: the same weights may stand in two places
    empty: str | None  # the name of a tensor that has no numbers

    def __str__(self) -> str:
        return ".".join([*self.path, self.prefix.rstrip(".")]).strip(".") or "the file itself"

    @property
    def is_average(self) -> bool:
        """Whether its place says that it is an average over training."""
        return _AVERAGE.search(str(self)) is not None


def unwrap(content: Mapping[Any, Any]) -> Unwrapped | None:
    """The one model in the content of a file, or None where none has both towers.

    Raises CheckpointError for adapters, and for several models of which none is clearly meant.
    """
    for _, names in dictionaries(content):
        refuse_adapter_tensors(names)
    found = [candidate for path, names in dictionaries(content) for candidate in _candidates(path, names)]
    return choose(found) if found else None


def choose(found: Sequence[Candidate]) -> Unwrapped:
    """The one model that is meant of those that were found: weights before an average of them over training.

    Raises CheckpointError where several may be meant, and where the weights were divided among processes.
    """
    chosen = [candidate for candidate in found if not candidate.is_average] or found
    # One that stands in two places is still one.
    chosen = list({candidate.address: candidate for candidate in reversed(chosen)}.values())[::-1]
    if len(chosen) > 1:
        raise CheckpointError(
            f"the file holds {len(chosen)} models, {_some(map(str, chosen), len(chosen))}: save the state_dict of the "
            "one that is meant in a file of its own"
        )
    model = chosen[0]
    if model.empty is not None:
        raise CheckpointError(
            f"{model.empty} is empty: the weights were divided among processes (ZeRO-3). Put them together "
            "first, with DeepSpeed's zero_to_fp32.py"
        )
    averages = [each for each in found if each is not model and each.is_average]
    warnings = []
    if averages:
        listed = _some(map(str, averages), len(averages))
        noun = "an average over training" if len(averages) == 1 else "averages over training"
        warnings.append(f"{model} was read; the file also holds {listed}, {noun}")
    if model.is_average:
        warnings.append(f"{model} was read, an average over training: the file has no other weights")
    return _stripped(model, averages, warnings)


def dictionaries(content: Mapping[Any, Any]) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """The dictionaries with names for keys in a file's content, itself included, each with its path.

    One that stands in several places comes with each of them, but for those that are so large, or so often repeated,
    that going through them would take long.
    """
    seen: set[int] = set()
    repeated = 0  # names of dictionaries that had been there before
    waiting: list[tuple[tuple[str, ...], Mapping[Any, Any]]] = [((), content)]
    for path, names in waiting:  # which grows; a dictionary that holds itself ends with the depth
        if id(names) in seen:
            repeated += len(names)
            if repeated > _MAX_REPEATED:
                continue
        seen.add(id(names))
        yield path, names
        if len(path) < _MAX_DEPTH:
            inner = [((*path, key), v) for key, v in names.items() if isinstance(key, str) and isinstance(v, Mapping)]
            waiting += inner[: _MAX_DICTIONARIES - len(waiting)]


def _candidates(path: tuple[str, ...], names: Mapping[Any, Any]) -> Iterator[Candidate]:
    """The models in a dictionary: one for each prefix under which both towers are found."""
    tensors = {
        SEGMENTS.sub("", key): value
        for key, value in names.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    for layout, anchors in ANCHORS.items():
        texts, images = (
            {m[1]: name for name in tensors if (m := re.fullmatch(rf"((?:.+?\.)??){anchor}", name))}
            for anchor in anchors
        )
        for prefix in sorted(texts.keys() & images.keys()):
            tokens = tensors[texts[prefix]]
            empty = None if tokens.numel() else "token_embedding.weight"
            yield Candidate(path, names, prefix, layout, address_of(tokens), empty)


def address_of(tensor: Tensor) -> int:
    """Where its numbers are, the same for all tensors that share them."""
    return tensor.untyped_storage().data_ptr() or id(tensor)  # what is empty lies nowhere


def _stripped(model: Candidate, averages: list[Candidate], warnings: list[str]) -> Unwrapped:
    state: dict[str, Any] = {}
    outside: list[str] = []
    taken_off = ""
    same = {each.prefix for each in averages if each.names is model.names}
    known = {prefix for prefix in same if not model.prefix.startswith(prefix)}
    for key, value in model.names.items():
        name = SEGMENTS.sub("", key) if isinstance(key, str) else key
        if known and isinstance(name, str) and any(prefix in known for prefix in prefixes(name)):
            continue
        if not isinstance(name, str) or not name.startswith(model.prefix) or name in _COUNTERS:
            outside.append(str(key))
            continue
        plain = name.removeprefix(model.prefix)
        if plain in state:
            raise CheckpointError(f"{key} is in the checkpoint twice, with and without a prefix")
        state[plain] = value
        taken_off = taken_off or str(key).removesuffix(plain)
    if outside:
        warnings.append(left_out(outside))
    return Unwrapped(state, model.layout, model.path, taken_off, warnings)


def left_out(names: Sequence[str]) -> str:
    """The warning that these entries of a file are none of its model."""
    return f"{len(names)} entries beside the model were left out: {_some(names, len(names), 3)}"


def prefixes(name: str) -> Iterator[str]:
    """What may stand before a name: nothing, and everything up to one of its first dots."""
    yield ""
    end = 0
    for _ in range(_MAX_SEGMENTS):
        end = name.find(".", end, MAX_NAME) + 1
        if not end:
            return
        yield name[:end]


def _some(names: Iterable[str], count: int, most: int = _EXAMPLES) -> str:
    return ", ".join([name[:_MAX_SHOWN] for name in islice(names, most)]) + (", ..." if count > most else "")
