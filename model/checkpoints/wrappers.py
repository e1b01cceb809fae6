"""What trainers put around the weights of a model: dictionaries in dictionaries, and prefixes before the names.

Models are found by what every CLIP has, wherever it stands: the token embedding of its text tower, and the patch
embedding (or first convolution) of its picture tower, under the names of one of the known layouts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from model.checkpoints.checkpoint import CheckpointError

# Put into names by DDP, torch.compile, FSDP, activation checkpointing, Lightning and TinyCLIP, at any depth.
SEGMENTS = re.compile(
    r"(?:(?<=^)|(?<=\.))(?:(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module"
    r"|_image_encoder|_text_encoder|_logit_scale)\.)+"
)
# By layout: text tower, picture tower. What stands before is the prefix.
_ANCHORS = {
    "OpenAI's": (r"(?:text\.)?token_embedding\.weight", r"visual\.(?:conv1\.weight|trunk\..+)"),
    "transformers'": (
        r"text_model\.embeddings\.token_embedding\.weight",
        r"vision_model\.embeddings\.patch_embedding\.weight",
    ),
}
_AVERAGE = re.compile(r"(?:^|[._])(?:ema|swa|shadow|averaged?)(?:[._]|$)", re.IGNORECASE)
_ADAPTER = re.compile(r"(?:^|[._])(?:lora_|lokr_|hada_|base_layer\.)")
_COUNTERS = {"n_averaged"}  # of torch's AveragedModel
_MAX_DEPTH = 4
_MAX_DICTIONARIES = 10_000


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
class _Model:
    path: tuple[str, ...]
    names: Mapping[Any, Any]
    prefix: str
    layout: str
    address: int  # of its token embedding
    empty: bool

    def __str__(self) -> str:
        return ".".join([*self.path, self.prefix.rstrip(".")]).strip(".") or "the file itself"


def unwrap(content: Mapping[Any, Any]) -> Unwrapped | None:
    """The one model in the content of a file, or None where none has both towers.

    Raises CheckpointError for adapters, and for several models of which none is clearly meant.
    """
    _refuse_adapters(content)
    found = [model for path, names in dictionaries(content) for model in _models(path, names)]
    if not found:
        return None
    chosen = [model for model in found if not _AVERAGE.search(str(model))] or found
    # One that stands in two places is still one.
    chosen = list({model.address: model for model in reversed(chosen)}.values())[::-1]
    if len(chosen) > 1:
        raise CheckpointError(
            f"the file holds {len(chosen)} models, {', '.join(map(str, chosen))}: save the state_dict of the one that "
            "is meant in a file of its own"
        )
    model = chosen[0]
    if model.empty:
        raise CheckpointError(
            "token_embedding.weight is empty: the weights were divided among processes (ZeRO-3). Put them together "
            "first, with DeepSpeed's zero_to_fp32.py"
        )
    averages = [each for each in found if each is not model and _AVERAGE.search(str(each))]
    warnings = [f"{model} was read; the file also holds {each}, an average over training" for each in averages]
    if _AVERAGE.search(str(model)):
        warnings.append(f"{model} was read, an average over training: the file has no other weights")
    return _stripped(model, averages, warnings)


def dictionaries(content: Mapping[Any, Any]) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """The dictionaries with names for keys in a file's content, itself included, each with its path."""
    waiting: list[tuple[tuple[str, ...], Mapping[Any, Any]]] = [((), content)]
    for path, names in waiting:  # which grows; a dictionary that holds itself ends with the depth
        yield path, names
        if len(path) < _MAX_DEPTH:
            inner = [((*path, key), v) for key, v in names.items() if isinstance(key, str) and isinstance(v, Mapping)]
            waiting += inner[: _MAX_DICTIONARIES - len(waiting)]


def describe(content: Mapping[Any, Any]) -> str:
    """What was seen in a file in which no model was found, what was looked for, and what of that is not there."""
    path, names = max(dictionaries(content), key=lambda entry: sum(isinstance(v, Tensor) for v in entry[1].values()))
    tensors = [str(key) for key, value in names.items() if isinstance(value, Tensor)]
    begins = Counter(name.partition(".")[0] for name in tensors).most_common(5)
    where = "".join(f"[{key!r}]" for key in path) or "the file"
    seen = f"{len(tensors)} tensors in {where}" + (
        f", whose names begin with {', '.join(f'{name[:40]} ({count})' for name, count in begins)}" if begins else ""
    )
    others = [str(key)[:40] for key in content if key not in path][:8] if path else []
    beside = f"; beside it: {', '.join(others)}" if others else ""
    return f"Seen: {seen}{beside}. Looked for, under any prefix: {_missing(tensors)}."


def _missing(names: list[str]) -> str:
    cleaned = [SEGMENTS.sub("", name) for name in names]
    lines = []
    for layout, anchors in _ANCHORS.items():
        is_found = [any(re.fullmatch(rf"(?:.*\.)?{anchor}", name) for name in cleaned) for anchor in anchors]
        lacking = [tower for tower, found in zip(("text", "picture"), is_found, strict=True) if not found]
        examples = (
            "token_embedding.weight and visual.conv1.weight" if layout == "OpenAI's" else "text_model and vision_model"
        )
        lines.append(f"{layout} layout ({examples}; no {' and no '.join(lacking)} tower)")
    return ", ".join(lines)


def _models(path: tuple[str, ...], names: Mapping[Any, Any]) -> Iterator[_Model]:
    """The models in a dictionary: one for each prefix under which both towers are found."""
    tensors = {
        SEGMENTS.sub("", key): value
        for key, value in names.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    for layout, anchors in _ANCHORS.items():
        texts, images = (
            {m[1]: name for name in tensors if (m := re.fullmatch(rf"((?:.+?\.)??){anchor}", name))}
            for anchor in anchors
        )
        for prefix in sorted(texts.keys() & images.keys()):
            tokens = tensors[texts[prefix]]
            address = tokens.untyped_storage().data_ptr() or id(tokens)  # what is empty lies nowhere
            yield _Model(path, names, prefix, layout, address, empty=tokens.numel() == 0)


def _stripped(model: _Model, averages: list[_Model], warnings: list[str]) -> Unwrapped:
    state: dict[str, Any] = {}
    outside: list[str] = []
    taken_off = ""
    known = tuple(each.prefix for each in averages if each.names is model.names)
    for key, value in model.names.items():
        name = SEGMENTS.sub("", key) if isinstance(key, str) else key
        if not isinstance(name, str) or not name.startswith(model.prefix) or name in _COUNTERS:
            if not (isinstance(name, str) and known and name.startswith(known)):
                outside.append(str(key))
            continue
        plain = name.removeprefix(model.prefix)
        if plain in state:
            raise CheckpointError(f"{key} is in the checkpoint twice, with and without a prefix")
        state[plain] = value
        taken_off = taken_off or str(key).removesuffix(plain)
    if outside:
        examples = ", ".join(outside[:3]) + (", ..." if len(outside) > 3 else "")
        warnings.append(f"{len(outside)} entries beside the model were left out: {examples}")
    return Unwrapped(state, model.layout, model.path, taken_off, warnings)


def _refuse_adapters(content: Mapping[Any, Any]) -> None:
    for _, names in dictionaries(content):
        adapters = [key for key in names if isinstance(key, str) and _ADAPTER.search(key)]
        if adapters:
            raise CheckpointError(
                f"{adapters[0]} and {len(adapters) - 1} others are those of an adapter (LoRA), changes to a model: "
                "merge them into it (with PEFT: merge_and_unload()), save that, and import it"
            )
