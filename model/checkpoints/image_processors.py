"""The image processors of transformers: what each does where its file says nothing, and those that we do not compute.

From the classes `*ImageProcessor` of transformers 5.23.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.checkpoints.checkpoint import CheckpointError
from model.config import OPENAI_MEAN, OPENAI_STD

_BILINEAR, _BICUBIC = 2, 3  # PIL.Image.Resampling
_OPENAI: dict[str, Any] = {"image_mean": OPENAI_MEAN, "image_std": OPENAI_STD}
_HALF: dict[str, Any] = {"image_mean": 0.5, "image_std": 0.5}


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


_COMMON: dict[str, Any] = {
    "do_resize": True,
    "resample": _BICUBIC,
    "default_to_square": True,
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "do_pad": False,
}
_CLIP: dict[str, Any] = {
    "size": {"shortest_edge": 224},
    "default_to_square": False,
    "do_center_crop": True,
    "crop_size": 224,
    **_OPENAI,
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "CLIP": _CLIP,
    "ChineseCLIP": _CLIP,
    "Bit": _CLIP,
    "VideoMAE": {**_CLIP, **_HALF, "resample": _BILINEAR},
    "Siglip": {"size": _square(224), "default_to_square": False, **_HALF},
    "Blip": {"size": _square(384), **_OPENAI},
    "OwlViT": {"size": _square(768), "crop_size": 768, **_OPENAI},
    "Flava": {"size": _square(224), "do_center_crop": True, "crop_size": 224, **_OPENAI},
    "ViT": {"size": _square(224), "resample": _BILINEAR, **_HALF},
    "DeiT": {"size": _square(256), "do_center_crop": True, "crop_size": 224, **_HALF},
    "Tipsv2": {"size": _square(448), "resample": _BILINEAR, "do_normalize": False, **_HALF},
    "EfficientNet": {"size": _square(346), "crop_size": 289, "rescale_offset": False, "include_top": True, **_HALF},
}
_REFUSED = {
    "Siglip2": "as many patches as fit the picture's shape (NaFlex), not a square. A SigLIP 2 of fixed resolution, "
    "such as google/siglip2-base-patch16-256, can be imported",
    "Owlv2": "a blur and a linear zoom in floating point (scikit-image's resize), which 8-bit pixels do not hold. "
    "An OWL-ViT, such as google/owlvit-base-patch32, can be imported",
    "BridgeTower": "pictures that keep their shape, with a mask, not a square",
    "TimmWrapper": "a transform of timm that its file does not describe",
}
# Of the model_type of a config.json, for files that name no processor, as AutoImageProcessor has it.
_OF_MODEL = {
    "aimv2": "CLIP",
    "align": "EfficientNet",
    "altclip": "CLIP",
    "blip": "Blip",
    "blip-2": "Blip",
    "chinese_clip": "ChineseCLIP",
    "clip": "CLIP",
    "clipseg": "ViT",
    "flava": "Flava",
    "groupvit": "CLIP",
    "metaclip_2": "CLIP",
    "owlv2": "Owlv2",
    "owlvit": "OwlViT",
    "siglip": "Siglip",
    "siglip2": "Siglip2",
    "tipsv2": "Tipsv2",
    "xclip": "CLIP",
}


def with_defaults(cfg: Mapping[str, Any], model_type: str, image_size: int) -> dict[str, Any]:
    """The settings of a file, and those of its processor that it does not give.

    `model_type` names the processor where the file does not. Where there is no file, `cfg` is empty, and pictures are
    resized for a tower of `image_size`. Raises CheckpointError for a processor that we do not compute.
    """
    name = _processor(cfg, model_type)
    defaults = _COMMON | _DEFAULTS[name]
    if not cfg:
        if name == "EfficientNet":
            raise CheckpointError(
                "there is no preprocessor_config.json, and the models of this family differ from the defaults of "
                "their processor: copy the file of the original beside the weights"
            )
        defaults |= {"size": dict.fromkeys(defaults["size"], image_size), "crop_size": image_size}
    settings = defaults | dict(cfg)
    if name != "EfficientNet":  # the only one that reads these
        settings |= {"rescale_offset": False, "include_top": False}
    if name == "OwlViT" and "rescale" in cfg:  # its early files, for do_rescale
        settings["do_rescale"] = cfg["rescale"]
    return settings


def _processor(cfg: Mapping[str, Any], model_type: str) -> str:
    given = cfg.get("image_processor_type", cfg.get("feature_extractor_type"))
    name = given if isinstance(given, str) else None if given is not None else _OF_MODEL.get(model_type)
    for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
        name = name and name.removesuffix(ending)
    if name in _REFUSED:
        raise CheckpointError(
            f"preprocessing with image_processor_type {given or name + 'ImageProcessor'!r} is not supported: it makes "
            f"{_REFUSED[name]}"
        )
    if name not in _DEFAULTS:
        raise CheckpointError(
            f"preprocessing with image_processor_type {given!r:.100} is not supported: it must be one of "
            f"{', '.join(f'{known}ImageProcessor' for known in sorted(_DEFAULTS))}"
        )
    return name
