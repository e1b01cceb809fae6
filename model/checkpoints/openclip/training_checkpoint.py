"""Training checkpoints and plain state dictionaries of open_clip, TinyCLIP and Lightning -> checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from model.checkpoints import openai
from model.checkpoints.checkpoint import Checkpoint, CheckpointError, Options
from model.checkpoints.openclip.config import CONFIG
from model.checkpoints.recognition import describe, likely
from model.checkpoints.wrappers import unwrap
from model.config import Activation

# In open_clip's own order of preference.
WEIGHTS = (
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"),
    *("open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth"),
    *("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth"),
)
# TinyCLIP keeps its towers and the scale in modules of their own, each of which may have been wrapped for training.
_TINYCLIP = re.compile(r"(?:module\.)?_(?:image_encoder|text_encoder|logit_scale)\.(?:module\.)?(.+)")
_TINYCLIP_PRUNED = "l0_module."
_LIGHTNING = "pytorch-lightning_version"


def read_training(content: Mapping[str, Any], options: Options, name: str) -> Checkpoint:
    """The content of `epoch_N.pt`: `state_dict` with or without `module.`, and what the trainer kept beside it.

    Or a state dictionary alone. The architecture is inferred from the shapes. Raises CheckpointError.
    """
    unwrapped = unwrap(content)
    if unwrapped is None:
        raise _no_model(content, options, name)
    state = plain_state(unwrapped.state)
    _refuse_trunk(state)
    left_open = options.activation is None and options.architecture is None
    tinyclip = left_open and any(_TINYCLIP.match(key) for key in content.get("state_dict", content))
    # Of open_clip's own trainer, whose models have gelu unless it was told otherwise.
    trained = ("state_dict" in content and _LIGHTNING not in content) or any(
        str(k).startswith("module.") for k in content
    )
    assumed: Activation = "gelu" if trained else "quick_gelu"
    try:
        checkpoint = openai.read_state(state, options, name, "gelu" if tinyclip else None, assumed=assumed)
    except CheckpointError as error:
        described = unwrapped.described()
        message = f"{error} (in {described})" if described else str(error)
        whose = "" if options.architecture else likely(state)
        raise CheckpointError(f"{message}. {whose}" if whose else message) from error
    checkpoint.warnings.extend(unwrapped.warnings)
    if described := unwrapped.described():
        checkpoint.source["unwrapped"] = described
    if tinyclip:
        checkpoint.source["activation_from"] = "the names of TinyCLIP, whose models all have gelu"
    if "state_dict" in content:
        checkpoint.source["format"] = f"{'Lightning' if _LIGHTNING in content else 'open_clip training'} checkpoint"
    for field in ("epoch", "name"):
        if isinstance(content.get(field), int | str):
            checkpoint.source[f"training_{field}"] = content[field]
    return checkpoint


def _no_model(content: Mapping[str, Any], options: Options, name: str) -> CheckpointError:
    """What stands in the way of reading this, and what was seen of it."""
    reason = "these are not weights of a CLIP"
    try:
        state = plain_state(content)
        _refuse_trunk(state)
        openai.read_state(state, replace(options, architecture=None), name)
    except CheckpointError as error:
        reason = str(error)
    return CheckpointError(f"{reason}. {describe(content)}")


def _refuse_trunk(state: Mapping[str, Tensor]) -> None:
    if any(key.startswith("visual.trunk.") for key in state):
        raise CheckpointError(
            "visual.trunk is a tower of timm, which its tensors do not describe: name the model's --architecture, as "
            f"open_clip has it, or put the file into a folder as {WEIGHTS[2]}, beside the {CONFIG} of its model. "
            f"{likely(state)}"
        )


def plain_state(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors under the names of OpenAI's release, whatever open_clip and TinyCLIP put before them.

    Raises CheckpointError for what is no tensor, and for TinyCLIP's checkpoints that are still to be pruned.
    """
    state = content.get("state_dict", content)
    if not isinstance(state, Mapping):
        raise CheckpointError(f"state_dict is a {type(state).__name__}, not a dictionary of tensors")
    plain: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if not isinstance(key, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(f"state_dict holds a {type(tensor).__name__} as {key!r:.100}: tensors are expected")
        name = _plain_name(key)
        if name.startswith(_TINYCLIP_PRUNED):
            raise CheckpointError(f"{key}: TinyCLIP's masked layers (auto weight inheritance) are not supported")
        if name in plain:
            raise CheckpointError(f"{key} is in the checkpoint twice, with and without a prefix")
        # As a number, or as a list of one: both are found.
        plain[name] = tensor.reshape(()) if name in ("logit_scale", "logit_bias") and tensor.numel() == 1 else tensor
    return plain


def _plain_name(key: str) -> str:
    wrapped = _TINYCLIP.fullmatch(key)
    return wrapped[1] if wrapped else key.removeprefix("module.").removeprefix("text.")
