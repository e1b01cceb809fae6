"""Preprocessing settings of the published formats -> ours, and back.

By default pictures are turned upright, transparency shows white, and large JPEGs may be decoded at a smaller scale.
With `Options.exact_pixels` all three are as in the source's own code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from model.checkpoints.checkpoint import CheckpointError, Options
from model.config import OPENAI_MEAN, OPENAI_STD, Preprocessing

_OPENCLIP_DEFAULTS: dict[str, Any] = {
    "mode": "RGB",
    "mean": OPENAI_MEAN,
    "std": OPENAI_STD,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
_RESAMPLE = {2: "bilinear", 3: "bicubic"}  # PIL.Image.Resampling
_CLIP_DEFAULTS: dict[str, Any] = {
    "size": {"shortest_edge": 224},
    "crop_size": 224,
    "do_center_crop": True,
    "image_mean": OPENAI_MEAN,
    "image_std": OPENAI_STD,
}
_SIGLIP_DEFAULTS: dict[str, Any] = {
    "size": {"height": 224, "width": 224},
    "do_center_crop": False,
    "image_mean": 0.5,
    "image_std": 0.5,
}
_PROCESSOR_DEFAULTS: dict[str, Any] = {
    "do_resize": True,
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "do_pad": False,
}

_MAX_NUMBER = 1e6  # of a mean or a deviation
_MAX_SIDE = 4096  # the largest that an image tower is built for

Family = Literal["clip", "siglip"]


def from_openclip(cfg: Mapping[str, Any], image_size: int, options: Options) -> Preprocessing:
    """The `preprocess_cfg` of an open_clip configuration whose image tower takes `image_size` pixels.

    An empty one is what OpenAI's release does for every model. Raises CheckpointError for what we do not compute.
    """
    cfg = _OPENCLIP_DEFAULTS | _given("preprocess_cfg", cfg)
    _expect(cfg, "mode", "RGB")
    _expect(cfg, "resize_mode", "shortest", "squash")
    _expect(cfg, "interpolation", "bicubic", "bilinear", "random")
    return Preprocessing(
        size=_one_size(_side("size", cfg.get("size", image_size)), image_size, options),
        mean=_channels("mean", cfg["mean"]),
        std=_channels("std", cfg["std"], above=0),
        # At random in training only.
        interpolation="bicubic" if cfg["interpolation"] == "random" else cfg["interpolation"],
        resize_mode=cfg["resize_mode"],
        exif_orientation=not options.exact_pixels,
        alpha="drop" if options.exact_pixels else "white",
    )


def from_transformers(
    cfg: Mapping[str, Any] | None, image_size: int, options: Options, family: Family = "clip"
) -> Preprocessing:
    """A preprocessor_config.json or processor_config.json of transformers; None where the folder has neither.

    `family` gives the defaults where the file names no processor. Raises CheckpointError for what we do not compute.
    """
    cfg = _given("the preprocessor configuration", {} if cfg is None else cfg)
    cfg = _given("image_processor", cfg.get("image_processor", cfg))
    defaults = {"clip": _CLIP_DEFAULTS, "siglip": _SIGLIP_DEFAULTS}[_family(cfg, family)]
    if not cfg:
        defaults = defaults | {"size": dict.fromkeys(defaults["size"], image_size), "crop_size": image_size}
    cfg = _PROCESSOR_DEFAULTS | defaults | cfg
    for field in ("do_resize", "do_rescale"):
        _expect(cfg, field, True)
    _expect(cfg, "do_pad", False)
    _expect(cfg, "resample", *_RESAMPLE)
    factor = cfg["rescale_factor"]
    if not (isinstance(factor, float) and math.isclose(factor, 1 / 255, rel_tol=1e-6)):
        raise _unsupported("rescale_factor", factor)
    size, resize_mode = _transformers_size(cfg)
    normalised = cfg["do_normalize"]
    return Preprocessing(
        size=_one_size(size, image_size, options),
        mean=_channels("image_mean", cfg["image_mean"] if normalised else 0),
        std=_channels("image_std", cfg["image_std"] if normalised else 1, above=0),
        interpolation=_RESAMPLE[cfg["resample"]],
        resize_mode=resize_mode,
        exif_orientation=not options.exact_pixels,
        crop="floor",
    )


def to_openclip(p: Preprocessing) -> dict[str, Any]:
    """Fields of open_clip's `preprocess_cfg`."""
    return {
        "size": p.size,
        "mode": "RGB",
        "mean": list(p.mean),
        "std": list(p.std),
        "interpolation": p.interpolation,
        "resize_mode": p.resize_mode,
        "fill_color": 0,
    }


def to_transformers(p: Preprocessing) -> dict[str, Any]:
    """Fields of transformers' preprocessor_config.json."""
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
    if p.resize_mode == "squash":
        return cfg | {"image_processor_type": "SiglipImageProcessor", "size": square}
    return cfg | {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": p.size},
        "do_center_crop": True,
        "crop_size": square,
    }


def _given(where: str, cfg: Any) -> dict[str, Any]:
    """Both libraries take null for a field that is not there."""
    if not isinstance(cfg, Mapping):
        raise CheckpointError(f"{where} is a {type(cfg).__name__}, not a mapping of settings")
    return {name: value for name, value in cfg.items() if value is not None}


def _family(cfg: Mapping[str, Any], family: Family) -> Family:
    name = cfg.get("image_processor_type", cfg.get("feature_extractor_type"))
    if name is None:
        return family
    for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
        name = str(name).removesuffix(ending)
    families: dict[str, Family] = {"CLIP": "clip", "Siglip": "siglip"}
    if name not in families:
        raise _unsupported("image_processor_type", cfg.get("image_processor_type", cfg.get("feature_extractor_type")))
    return families[name]


def _transformers_size(cfg: Mapping[str, Any]) -> tuple[int, Literal["shortest", "squash"]]:
    size = cfg["size"]
    shortest = isinstance(size, int) or (isinstance(size, dict) and set(size) == {"shortest_edge"})
    side = _side("size", size["shortest_edge"] if isinstance(size, dict) and shortest else size)
    if shortest:
        _expect(cfg, "do_center_crop", True)
    if cfg["do_center_crop"] and _side("crop_size", cfg.get("crop_size")) != side:
        raise CheckpointError(
            f"the preprocessor configuration resizes to {size!r} and then crops to {cfg.get('crop_size')!r}: "
            "sizes that differ are not supported"
        )
    return side, "shortest" if shortest else "squash"


def _side(field: str, value: Any) -> int:
    """The side of a square: a number, a pair, or height and width."""
    sides = value
    if isinstance(value, dict) and set(value) == {"height", "width"}:
        sides = [value["height"], value["width"]]
    elif isinstance(value, int):
        sides = [value]
    if not isinstance(sides, list | tuple) or not all(type(side) is int for side in sides) or len(set(sides)) != 1:
        raise _unsupported(field, value)
    return int(sides[0])


def _one_size(size: int, image_size: int, options: Options) -> int:
    if options.image_size is not None:
        size = image_size = options.image_size
    if size != image_size:
        raise CheckpointError(
            f"the preprocessing gives pictures of {size} pixels, the image tower takes {image_size}: "
            "say which with --image-size"
        )
    if not 0 < size <= _MAX_SIDE:
        raise CheckpointError(f"pictures of {size} pixels are not supported: choose a size from 1 to {_MAX_SIDE}")
    return size


def _channels(field: str, value: Any, above: float = -math.inf) -> tuple[float, ...]:
    channels = tuple(value) if isinstance(value, list | tuple) else (value,) * 3
    finite = all(isinstance(number, int | float) and abs(number) < _MAX_NUMBER for number in channels)
    if not (finite and len(channels) == 3 and min(channels) > above):
        raise _unsupported(field, value)
    return channels


def _expect(cfg: Mapping[str, Any], field: str, *known: Any) -> None:
    if cfg[field] not in known:
        raise _unsupported(field, cfg[field], f": it must be {' or '.join(map(repr, known))}")


def _unsupported(field: str, value: Any, remedy: str = "") -> CheckpointError:
    return CheckpointError(f"preprocessing with {field} {value!r} is not supported{remedy}")
