"""Where in a file the weights of a network of a library are: found by the names that the network itself has.

The counterpart of `model.checkpoints.wrappers`, whose rules decide among several.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from model.checkpoints.adapters import refuse_adapter_tensors
from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.recognition import seen_and_likely
from model.checkpoints.wrappers import (
    MAX_NAME,
    SEGMENTS,
    Candidate,
    Unwrapped,
    address_of,
    choose,
    dictionaries,
    left_out,
    prefixes,
)

_LAYOUT = "the library's"
_SHARE = 0.5  # of the names that the fullest candidate has: with less it is a part of a model
# MobileCLIP's own names, which open_clip converts: what every such model has, and how all of them begin.
_APPLE = re.compile(r"(.*?)(?<![^.])image_encoder\.model\.patch_emb")
_APPLES_TOWERS = ("image_encoder.", "text_encoder.", "logit_scale")


def unwrap_for(content: Mapping[Any, Any], expected: Mapping[str, Tensor]) -> Unwrapped:
    """The one model in the content of a file whose tensors have the names of `expected`, without what was around them.

    The time is linear in the number of names. Raises CheckpointError where there is none or where several may be meant,
    for an adapter, and for weights that were divided among processes.
    """
    for _, names in dictionaries(content):
        refuse_adapter_tensors(names)
    found = [each for path, names in dictionaries(content) for each in _candidates(path, names, expected)]
    if not found:
        examples = ", ".join(sorted(expected, key=len)[-3:])
        raise CheckpointError(
            f"none of its tensors has a name of the network's, as {examples}. {seen_and_likely(content)}"
        )
    fullest = max(count for count, _ in found)
    unwrapped = choose([candidate for count, candidate in found if count >= _SHARE * fullest])
    others = [name for name, value in unwrapped.state.items() if not isinstance(value, Tensor)]
    if not others:
        return unwrapped
    state = {name: value for name, value in unwrapped.state.items() if isinstance(value, Tensor)}
    return replace(unwrapped, state=state, warnings=[*unwrapped.warnings, left_out(others)])


def _candidates(
    path: tuple[str, ...], names: Mapping[Any, Any], expected: Mapping[str, Tensor]
) -> Iterator[tuple[int, Candidate]]:
    """The models that a dictionary may hold, each with the number of its names that are expected."""
    tensors = {
        SEGMENTS.sub("", key): value
        for key, value in names.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    apples = {match[1] for name in tensors if (match := _APPLE.match(name, 0, MAX_NAME))}
    matched: dict[str, list[str]] = defaultdict(list)
    for name in tensors:
        for prefix in prefixes(name):
            rest = name[len(prefix) :]
            if rest in expected or (prefix in apples and rest.startswith(_APPLES_TOWERS)):
                matched[prefix].append(name)
    taken: set[str] = set()
    # Names of a tower can be those of the whole model with another prefix: they count for the prefix that has most.
    for prefix, found in sorted(matched.items(), key=lambda entry: -len(entry[1])):
        own = [name for name in found if name not in taken]
        if not own:
            continue
        taken.update(own)
        largest = tensors[max(own, key=lambda name: tensors[name].numel())]
        empty = next((name for name in own if not tensors[name].numel() and _has_numbers(name, prefix, expected)), None)
        yield len(own), Candidate(path, names, prefix, _LAYOUT, address_of(largest), empty)


def _has_numbers(name: str, prefix: str, expected: Mapping[str, Tensor]) -> bool:
    like = expected.get(name[len(prefix) :])
    return like is None or like.numel() > 0
