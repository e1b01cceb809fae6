"""Preprocessing settings of the published formats -> ours, and back.

By default pictures are turned upright, transparency shows white, and large JPEGs may be decoded at a smaller scale.
With `Options.exact_pixels` all three are as in the source's own code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.image_processors import with_defaults
from model.checkpoints.pixel_fields import MAX_NUMBER, MAX_SIDE, channels, expect, given, side, towers_size, unsupported
from model.config import OPENAI_MEAN, OPENAI_STD, Preprocessing

_OPENCLIP_DEFAULTS: dict[str, Any] = {
    "mode": "RGB",
    "mean": OPENAI_MEAN,
    "std": OPENAI_STD,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}
# Of Jina CLIP: its file, also beside its ONNX files, has open_clip's fields, and its code is made from open_clip's.
_OF_OPENCLIP = "JinaCLIPImageProcessor"
_RESAMPLE = {2: "bilinear", 3: "bicubic"}  # PIL.Image.Resampling


def from_openclip(cfg: Mapping[str, Any], image_size: int, options: Options) -> Preprocessing:
    """The `preprocess_cfg` of an open_clip configuration whose image tower takes `image_size` pixels.

    An empty one is what OpenAI's release does for every model. Raises CheckpointError for what we do not compute.
    """
    cfg = _OPENCLIP_DEFAULTS | given("preprocess_cfg", cfg)
    expect(cfg, "mode", "RGB")
    expect(cfg, "resize_mode", "shortest", "squash", "longest")
    expect(cfg, "interpolation", "bicubic", "bilinear", "random")
    fill_color = cfg["fill_color"] if cfg["resize_mode"] == "longest" else 0  # nothing else is filled
    if type(fill_color) is not int or not 0 <= fill_color <= 255:
        raise unsupported("fill_color", fill_color, ": it must be a level of grey from 0 to 255")
    return Preprocessing(
        size=towers_size(side("size", cfg.get("size", image_size)), image_size, options),
        # open_clip takes a zero for no value.
        mean=channels("mean", OPENAI_MEAN if cfg["mean"] == 0 else cfg["mean"]),
        std=channels("std", cfg["std"], above=0),
        # At random in training only.
        interpolation="bicubic" if cfg["interpolation"] == "random" else cfg["interpolation"],
        resize_mode=cfg["resize_mode"],
        fill_color=fill_color,
        exif_orientation=not options.exact_pixels,
        alpha="drop" if options.exact_pixels else "white",
    )


def from_transformers(
    cfg: Mapping[str, Any] | None, image_size: int, options: Options, family: str = "clip"
) -> Preprocessing:
    """A preprocessor_config.json or processor_config.json of transformers; None where the folder has neither.

    `family`, the model_type of the config.json, gives the defaults where the file names no processor. Raises
    CheckpointError for what we do not compute.
    """
    cfg = given("the preprocessor configuration", {} if cfg is None else cfg)
    cfg = given("image_processor", cfg.get("image_processor", cfg))
    if cfg.get("image_processor_type") == _OF_OPENCLIP:
        return from_openclip(cfg, image_size, options)
    cfg = with_defaults(cfg, family, image_size)
    expect(cfg, "do_resize", True)
    expect(cfg, "do_pad", False)
    expect(cfg, "resample", *_RESAMPLE)
    size, resize_size, resize_mode = _geometry(cfg)
    size, resize_size = _fit(size, resize_size, image_size, options)
    mean, std = _normalisation(cfg)
    return Preprocessing(
        size=size,
        mean=mean,
        std=std,
        interpolation=_RESAMPLE[cfg["resample"]],
        resize_mode=resize_mode,
        resize_size=resize_size,
        exif_orientation=not options.exact_pixels,
        crop="floor",
    )


def to_openclip(p: Preprocessing) -> dict[str, Any]:
    """Fields of open_clip's `preprocess_cfg`. Raises CheckpointError for what it has no field for."""
    if p.resize_size is not None:
        raise CheckpointError(
            f"preprocessing with resize_size {p.resize_size} cannot be written for open_clip, which crops to the size "
            "that it resizes to: use --format transformers"
        )
    return {
        "size": p.size,
        "mode": "RGB",
        "mean": list(p.mean),
        "std": list(p.std),
        "interpolation": p.interpolation,
        "resize_mode": p.resize_mode,
        "fill_color": p.fill_color,
    }


def to_transformers(p: Preprocessing) -> dict[str, Any]:
    """Fields of transformers' preprocessor_config.json. Raises CheckpointError for what it has no processor for."""
    if p.resize_mode == "longest":
        raise CheckpointError(
            "preprocessing with resize_mode 'longest' cannot be written for transformers, whose processors pad no "
            "picture to a square: use --format openclip"
        )
    cfg: dict[str, Any] = {
        "do_convert_rgb": True,
        "do_resize": True,
        "resample": next(number for number, name in _RESAMPLE.items() if name == p.interpolation),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(p.mean),
        "image_std": list(p.std),
    }
    square = {"height": p.size, "width": p.size}
    if p.resize_mode == "squash" and p.resize_size is None:
        return cfg | {"image_processor_type": "SiglipImageProcessor", "size": square}
    resize_size = p.resize_size or p.size
    shortest = p.resize_mode == "shortest"
    return cfg | {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": resize_size} if shortest else {"height": resize_size, "width": resize_size},
        "do_center_crop": True,
        "crop_size": square,
    }


def _geometry(cfg: Mapping[str, Any]) -> tuple[int, int | None, Literal["shortest", "squash"]]:
    """What is cropped, what is resized to before if that is more, and which sides are."""
    size = cfg["size"]
    shortest = type(size) is int and not cfg["default_to_square"]
    shortest = shortest or (isinstance(size, dict) and set(size) == {"shortest_edge"})
    resized = side("size", size["shortest_edge"] if isinstance(size, dict) and shortest else size)
    if not cfg["do_center_crop"]:
        if shortest:
            raise unsupported("do_center_crop", False, ": without it pictures keep their shape, and are not square")
        return resized, None, "squash"
    cropped = side("crop_size", cfg.get("crop_size"))
    if cropped > resized:
        raise CheckpointError(
            f"the preprocessor configuration resizes to {size!r:.100} and then crops to {cropped}: black all round "
            "the picture is not supported"
        )
    return cropped, None if cropped == resized else resized, "shortest" if shortest else "squash"


def _fit(size: int, resize_size: int | None, image_size: int, options: Options) -> tuple[int, int | None]:
    """Both sizes for the tower. Where the user named another, the crop keeps its share of the picture."""
    fitted = towers_size(size, image_size, options, resize_size)
    if resize_size is None:
        return fitted, None
    scaled = max(round(resize_size * fitted / size), fitted)
    if scaled > MAX_SIDE:
        raise CheckpointError(f"pictures of {scaled} pixels are not supported: choose a size from 1 to {MAX_SIDE}")
    return fitted, None if scaled == fitted else scaled


def _normalisation(cfg: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of pixels from 0 to 1, with all that is done to them in transformers.

    That is (pixel * rescale_factor - offset - mean) / deviation, for pixels from 0 to 255.
    """
    expect(cfg, "do_rescale", True)
    factor, normalised = cfg["rescale_factor"], cfg["do_normalize"]
    if type(factor) not in (int, float) or not 1 / MAX_NUMBER < factor < MAX_NUMBER:
        raise unsupported("rescale_factor", factor)
    scale = 1.0 if math.isclose(factor, 1 / 255, rel_tol=1e-6) else 255 * factor
    mean = channels("image_mean", cfg["image_mean"] if normalised else 0)
    std = channels("image_std", cfg["image_std"] if normalised else 1, above=0)
    if cfg["rescale_offset"]:
        mean = tuple(number + 1 for number in mean)
    if cfg["include_top"]:  # a second division
        std = tuple(a * b for a, b in zip(std, channels("image_std", cfg["image_std"], above=0), strict=True))
    return (
        channels("image_mean divided by rescale_factor", [number / scale for number in mean]),
        channels("image_std divided by rescale_factor", [number / scale for number in std], above=0),
    )
