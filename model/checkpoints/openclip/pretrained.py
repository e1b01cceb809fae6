"""How pictures are prepared for open_clip's pretrained tags, which a file of weights does not say.

From `pretrained.py` of open_clip 3.3. Its model configurations say nothing of it; folders of a hub say it themselves.
"""

from __future__ import annotations

import re
from typing import Any

_HALF: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
_UNIT: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
_IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_BILINEAR: dict[str, Any] = {"interpolation": "bilinear"}
_SQUASH: dict[str, Any] = {"resize_mode": "squash"}

# Architecture and tag; all that is not here is prepared as OpenAI's release does it.
_RULES: tuple[tuple[str, dict[str, Any]], ...] = (
    (r"(ViT-.+-SigLIP2?(-.+)?|nllb-clip-(base|large)-siglip):.+", _HALF | _SQUASH),
    (r"ViT-.+-CLIPA(-\d+)?:.+", _IMAGENET | _BILINEAR | _SQUASH),
    (r"PE-Core-.+:.+", _HALF | _BILINEAR | _SQUASH),
    (r"MobileCLIP-.+:.+|MobileCLIP2-(B|S0|S2):.+", _UNIT | _BILINEAR),
    (r"MobileCLIP2-(S3|S4):.+", _BILINEAR),
    (r"ViT-H-14(-378)?(-quickgelu)?:dfn5b", _SQUASH),
    (r"ViT-(H|bigG)-14-worldwide-378:.+", _SQUASH),
    (r"ViT-L-14:laion2b_s32b_b82k", _HALF),
)


def preprocess_cfg(architecture: str, tag: str) -> dict[str, Any]:
    """open_clip's `preprocess_cfg` for one of its pretrained models; the fields that are left out have its defaults.

    For `pixels.from_openclip`, and as `Options.preprocess_cfg`. Both names in any spelling that open_clip takes.
    """
    name = f"{architecture.replace('/', '-')}:{tag.replace('-', '_').lower()}"
    return next((dict(cfg) for pattern, cfg in _RULES if re.fullmatch(pattern, name)), {})
