"""Networks that open_clip builds, with weights that our readers have read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from model.checkpoints.checkpoint import CheckpointError, Options, naming
from model.checkpoints.library.branches import are_fused, fuse
from model.checkpoints.library.hf_text import text_config, text_config_folder
from model.checkpoints.library.loading import check, fill, read_state, without_place
from model.checkpoints.library.offline import offline
from model.checkpoints.wrappers import Unwrapped
from model.requirements import TORCH, TORCHVISION, how_to_install

_POSITIONS = ("visual.positional_embedding", "text.positional_embedding")
_COUNTERS = "position_ids"  # which transformers kept beside the weights once


@contextmanager
def open_clip_for(refusal: str) -> Iterator[ModuleType]:
    """The module open_clip. `refusal` says why our networks do not compute the model.

    Raises CheckpointError where it is not installed, or fails within the block.
    """
    try:
        import open_clip
    except ImportError as error:
        missing = (error.name or "open_clip").partition(".")[0]
        raise CheckpointError(f"{refusal}. open_clip computes it. {how_to_install(missing, 'convert-all')}") from error
    except Exception as error:  # torchvision of another build fails in its own way
        raise CheckpointError(
            f"{refusal}. open_clip computes it, and cannot be imported: {error}. torch and torchvision must "
            f"be of one build: {TORCH} and {TORCHVISION}, both from one index"
        ) from error
    try:
        with offline():
            yield open_clip
    except CheckpointError:
        raise
    except Exception as error:  # whatever a configuration makes of it
        raise CheckpointError(f"{refusal}; and open_clip {open_clip.__version__} cannot build it: {error}") from error


def chosen(cfg: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """A `model_cfg` with the user's activation and image size in it. Raises CheckpointError for an activation."""
    fields = deepcopy(dict(cfg))
    vision, text = fields["vision_cfg"], fields["text_cfg"]
    if options.image_size is not None:
        vision["image_size"] = options.image_size
    if options.activation is not None:
        for where, name in (("vision_cfg.timm_model_name", "timm"), ("text_cfg.hf_model_name", "transformers")):
            section, _, field = where.partition(".")
            if fields[section].get(field):
                raise CheckpointError(
                    f"--activation {options.activation} changes towers of open_clip's own only, and {where} is "
                    f"{fields[section][field]!r:.200}, of {name}: leave it out"
                )
        fields["quick_gelu"] = options.activation == "quick_gelu"
        for section in (vision, text):
            section["act_kwargs"] = {"approximate": "tanh"} if options.activation == "gelu_tanh" else None
    return fields


def build(cfg: Mapping[str, Any], text_model: Path) -> Any:
    """The network of a `model_cfg`, with random weights. Its text tower is always one apart, which takes short rows.

    The folder `text_model` may have the configuration of a text model of transformers.
    """
    from open_clip.coca_model import CoCa
    from open_clip.model import CustomTextCLIP

    fields = {key: value for key, value in deepcopy(dict(cfg)).items() if key != "custom_text"}
    network = CoCa if "multimodal_cfg" in fields else CustomTextCLIP
    vision, text = fields["vision_cfg"], fields["text_cfg"]
    if vision.get("timm_model_name"):
        vision["timm_model_pretrained"] = False  # which would be fetched
    name = text.get("hf_model_name")
    if not name:
        return network(**fields).eval()
    text["hf_model_pretrained"] = False
    with text_config_folder(text_config(str(name), text_model)) as folder:
        text["hf_model_name"] = folder
        return network(**fields).eval()


def read_weights(file: Path, sketch: Any) -> Unwrapped:
    """The tensors of a file for a network without memory, under the names that it has; they are known to fit.

    Raises CheckpointError.
    """
    expected = sketch.state_dict()
    # In older files the tensors of the text tower have no place of their own.
    read = read_state(file, {**expected, **{name.removeprefix("text."): t for name, t in expected.items()}})
    if are_fused(read.state):
        with torch.device("meta"):
            fuse(sketch)
    with naming(file):
        state, warnings = _current_names(sketch, read.state)
        check(sketch.state_dict(), state)
    return replace(read, state=state, warnings=[*read.warnings, *warnings])


def load(model: Any, state: Mapping[str, Tensor]) -> list[str]:
    """Give a network its weights. Returns warnings. Raises CheckpointError for values that are not finite."""
    return without_place([name for name in fill(model, state) if not name.endswith(_COUNTERS)])


def _current_names(model: Any, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors of older releases, of Apple's, and for pictures of other sizes, as the network has them now; warnings.

    What open_clip makes of them when it loads them.
    """
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed

    state: dict[str, Tensor] = convert_to_custom_text_state_dict(convert_state_dict(model, dict(tensors)))
    warnings = []
    if model.logit_bias is not None and "logit_bias" not in state:
        state["logit_bias"] = torch.zeros(model.logit_bias.shape)
        warnings.append("the weights have no logit_bias: it is zero, as open_clip has it then")
    expected = model.state_dict()
    # In number, not in width, which `check` refuses by its name.
    before = {
        name: len(state[name])
        for name in _POSITIONS
        if name in state and name in expected and state[name].shape[1:] == expected[name].shape[1:]
    }
    state |= {name: state[name].float() for name in before}
    if _POSITIONS[0] in before:
        resize_pos_embed(state, model)
    if _POSITIONS[1] in before:
        resize_text_pos_embed(state, model)
    warnings += [
        f"{name} was resized from {size} to {len(state[name])} positions, as open_clip does"
        for name, size in before.items()
        if len(state[name]) != size
    ]
    return state, warnings


def set_image_size(model: Any, size: int) -> None:
    """Have timm's tower, which is built for pictures of one size, take those of another, as open_clip does."""
    if hasattr(model.visual, "trunk") and hasattr(model.visual.trunk, "set_input_size"):
        model.visual.set_input_size(size)
