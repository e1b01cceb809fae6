"""Whose towers a config.json of transformers describes, and what the models are that we cannot import."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.transformers.remote_code import refuse_remote_code

Family = Literal["clip", "siglip"]  # as in model_type

_MODELS: dict[str, Family] = {"CLIPModel": "clip", "SiglipModel": "siglip"}

_TEXT_ALONE = "a text tower alone: the image tower is missing"
_PROJECTED_TEXT = "a text tower alone: the image tower and both projections into the common space are missing"
_IMAGE_ALONE = "an image tower alone: the text tower is missing"
_CLASSES = "an image tower with a fixed list of classes: the text tower is missing"
_NAFLEX = (
    "a SigLIP 2 of variable resolution (NaFlex), whose image tower reads patches of any number. The models of fixed "
    "resolution, such as google/siglip2-base-patch16-256, can be imported"
)
_OTHERS = {
    "CLIPTextModel": _PROJECTED_TEXT,
    "CLIPTextModelWithProjection": "a text tower with its projection: the image tower is missing",
    "CLIPVisionModel": _IMAGE_ALONE,
    "CLIPVisionModelWithProjection": _IMAGE_ALONE,
    "CLIPForImageClassification": _CLASSES,
    "clip_text_model": _PROJECTED_TEXT,
    "clip_vision_model": _IMAGE_ALONE,
    "clipseg": "CLIPSeg, a segmentation model: its decoder has no place in a bundle",
    "chinese_clip": "Chinese-CLIP: its text tower is BERT, which we do not have",
    "altclip": "AltCLIP: its text tower is XLM-RoBERTa, which we do not have",
    "metaclip_2": "Meta CLIP 2: its text tower reads another vocabulary, which we do not have",
    "jina_clip": "Jina CLIP: both towers need code of its own, which is never run",
    "vision-text-dual-encoder": "a pair of towers of other families",
    "SiglipTextModel": _TEXT_ALONE,
    "SiglipVisionModel": _IMAGE_ALONE,
    "SiglipForImageClassification": _CLASSES,
    "siglip_text_model": _TEXT_ALONE,
    "siglip_vision_model": _IMAGE_ALONE,
    "Siglip2Model": _NAFLEX,
    "siglip2": _NAFLEX,
}


def family_of(content: Mapping[str, Any], file: Path) -> Family:
    """The family of the model in a config.json, which was read from `file`. Raises CheckpointError for others."""
    if content.get("quantization_config") is not None:
        raise CheckpointError(f"{file} has a quantization_config: import the checkpoint that was quantised")
    kind, architecture = content.get("model_type"), _architecture(content)
    family = _MODELS.get(architecture)
    if family is not None and kind in (family, None):
        return family
    if architecture not in _OTHERS:
        refuse_remote_code(content, file)
    what = _OTHERS.get(architecture) or _OTHERS.get(str(kind)) or "code or layers that we do not have"
    raise CheckpointError(
        f"{file} describes {architecture} (model_type {kind!r:.100}), {what}. What can be imported is a folder whose "
        f"architectures is {' or '.join(_MODELS)}"
    )


def _architecture(content: Mapping[str, Any]) -> str:
    architectures = content.get("architectures")
    if isinstance(architectures, list) and architectures:
        return str(architectures[0])[:100]
    # Code that a folder brings along is never run, and these models need none.
    known = [name for name, family in _MODELS.items() if content.get("model_type") == family]
    return known[0] if known and "auto_map" not in content else "an unnamed model"
