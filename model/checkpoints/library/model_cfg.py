"""What is looked at in a `model_cfg` before open_clip gets it: nothing in it may fetch, run, or fill memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.library.outline import refuse_absurd

_TIMM_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?", re.ASCII)  # architecture and tag, and no address of a hub


def checked_fields(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that open_clip is to build a network of, with weights of nobody.

    Raises CheckpointError, naming the field, for what is absurd, missing, or has to be fetched.
    """
    refuse_absurd(cfg, "model_cfg")
    fields = deepcopy(dict(cfg))
    for section in ("vision_cfg", "text_cfg", *(("multimodal_cfg",) if "multimodal_cfg" in fields else ())):
        if not isinstance(fields.get(section), dict):
            raise CheckpointError(f"model_cfg.{section} is {_kind(fields.get(section))}, not an object")
    if not isinstance(fields.get("embed_dim"), int) or fields["embed_dim"] < 1:
        raise CheckpointError(f"model_cfg.embed_dim is {fields.get('embed_dim')!r:.100}, not a positive number")
    sides = fields["vision_cfg"].get("image_size")
    if isinstance(sides, list) and (len(sides) != 2 or sides[0] != sides[1]):
        raise CheckpointError(f"model_cfg.vision_cfg.image_size is {sides!r:.100}: pictures are square here")
    trunk = fields["vision_cfg"].get("timm_model_name")
    if trunk:
        if not isinstance(trunk, str) or not _TIMM_NAME.fullmatch(trunk):
            raise CheckpointError(
                f"model_cfg.vision_cfg.timm_model_name is {trunk!r:.100}: a name of timm's own list is expected, and "
                "nothing is fetched from anywhere"
            )
        fields["vision_cfg"]["timm_model_pretrained"] = False  # which would be fetched
    if fields["text_cfg"].get("hf_model_name"):
        fields["text_cfg"]["hf_model_pretrained"] = False
    return fields


def _kind(value: Any) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"
