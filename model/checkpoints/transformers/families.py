"""Whose towers a config.json of transformers describes, and what the models are that we cannot import."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.library.transformers_network import FAMILIES
from model.checkpoints.transformers.remote_code import refuse_remote_code

Family = Literal["clip", "siglip"]  # as in model_type

OURS: dict[str, Family] = {"CLIPModel": "clip", "SiglipModel": "siglip"}

_TEXT_ALONE = "a text tower alone: the image tower is missing"
_PROJECTED_TEXT = "a text tower alone: the image tower and both projections into the common space are missing"
_IMAGE_ALONE = "an image tower alone: the text tower is missing"
_CLASSES = "an image tower with a fixed list of classes: the text tower is missing"
_NAFLEX = (
    "a SigLIP 2 of variable resolution (NaFlex), whose image tower reads as many patches as fit the picture's shape: "
    "no square. The models of fixed resolution, such as google/siglip2-base-patch16-256, can be imported"
)
_BLIP2 = "BLIP-2, whose {}. BLIP's BlipForImageTextRetrieval, such as Salesforce/blip-itm-base-coco, can be imported"
_OWLV2 = (
    "OWLv2, whose processor blurs pictures and zooms them in floating point (scikit-image's resize): 8-bit pixels do "
    "not hold that. OWL-ViT, such as google/owlvit-base-patch32, can be imported"
)
_XCLIP = (
    "X-CLIP, a model of videos, which embeds no pictures, and whose vectors of texts depend on the video that they are "
    "compared with. The CLIP that it was made from, such as openai/clip-vit-base-patch32, can be imported"
)
_OTHERS = {
    "CLIPTextModel": _PROJECTED_TEXT,
    "CLIPTextModelWithProjection": "a text tower with its projection: the image tower is missing",
    "CLIPVisionModel": _IMAGE_ALONE,
    "CLIPVisionModelWithProjection": _IMAGE_ALONE,
    "CLIPForImageClassification": _CLASSES,
    "clip_text_model": _PROJECTED_TEXT,
    "clip_vision_model": _IMAGE_ALONE,
    "SiglipTextModel": _TEXT_ALONE,
    "SiglipVisionModel": _IMAGE_ALONE,
    "SiglipForImageClassification": _CLASSES,
    "siglip_text_model": _TEXT_ALONE,
    "siglip_vision_model": _IMAGE_ALONE,
    "jina_clip": "Jina CLIP: both towers need code of its own, which is never run",
    "Blip2ForImageTextRetrieval": _BLIP2.format("pictures have several vectors each, one for each of its queries"),
    "blip-2": _BLIP2.format("texts are embedded by a language model, in a space that pictures are not in"),
    "BlipForConditionalGeneration": "a BLIP that writes texts: it has no projections into a common space",
    "BlipForQuestionAnswering": "a BLIP that answers questions: it has no projections into a common space",
    "owlv2": _OWLV2,
    "siglip2": _NAFLEX,
    "xclip": _XCLIP,
}


def family_of(content: Mapping[str, Any], file: Path) -> Family:
    """The family of the model in a config.json, which was read from `file`. Raises CheckpointError for others."""
    refuse_quantised(content, file)
    kind, architecture = content.get("model_type"), _architecture(content)
    family = OURS.get(architecture)
    if family is not None and kind in (family, None):
        return family
    if architecture not in _OTHERS:
        refuse_remote_code(content, file)
    what = _OTHERS.get(architecture) or _OTHERS.get(str(kind)) or "code or layers that we do not have"
    if architecture in FAMILIES:
        what = "which is computed by transformers and not by us"
    raise CheckpointError(
        f"{file} describes {architecture} (model_type {kind!r:.100}), {what}. What can be imported is a folder whose "
        f"architectures is one of {', '.join(sorted(FAMILIES))}"
    )


def refuse_quantised(content: Mapping[str, Any], file: Path) -> None:
    """Raise CheckpointError where the weights beside a config.json, which was read from `file`, are quantised."""
    if content.get("quantization_config") is not None:
        raise CheckpointError(f"{file} has a quantization_config: import the checkpoint that was quantised")


def _architecture(content: Mapping[str, Any]) -> str:
    architectures = content.get("architectures")
    if isinstance(architectures, list) and architectures:
        return str(architectures[0])[:100]
    # Code that a folder brings along is never run, and these models need none.
    known = [name for name, family in OURS.items() if content.get("model_type") == family]
    return known[0] if known and "auto_map" not in content else "an unnamed model"
