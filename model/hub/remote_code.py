"""Models whose code lies beside their weights, which is never run: what a config.json says, and what can be served."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Classes of both towers that transformers 5 itself has: for them, code that lies beside is not needed.
NATIVE = frozenset(
    (
        "Aimv2Model", "AlignModel", "AltCLIPModel", "Blip2Model", "BlipModel", "CLIPModel", "CLIPSegModel",
        "ChineseCLIPModel", "FlavaModel", "GroupViTModel", "MetaClip2Model", "OwlViTModel", "Owlv2Model",
        "Siglip2Model", "SiglipModel", "Tipsv2Model", "VisionTextDualEncoderModel", "XCLIPModel",
    )
)  # fmt: skip
# By a pattern of the class, the type or the place of the code: a model that can be served and was made for the same.
_NEAREST = {
    "jina": "ViT-L-16-SigLIP2-512:webli",
    "nomic": "EVA02-B-16:merged2b_s8b_b131k",
    "nllb": "nllb-clip-base-siglip:mrl",
    "fg.?clip2": "fg-clip2-base",
    "mobile.?clip": "MobileCLIP2-S2:dfndr2b",
    "vitamin": "ViTamin-L-336:datacomp1b",
    "eva.?clip": "EVA02-L-14-336:merged2b_s6b_b61k",
    "siglip": "ViT-B-16-SigLIP2-384:webli",
}
_OTHERWISE = "ViT-B-16-SigLIP2:webli"
_SHOWN = 100  # characters of a name that a file holds


def describe_remote_code(content: Mapping[str, Any]) -> str | None:
    """Why the class of a config.json cannot be imported, as its code lies beside it; None where transformers has it.

    The reason names the class, where its code is, and the nearest model that can be served.
    """
    places, architectures = content.get("auto_map"), content.get("architectures")
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else "an unnamed model"
    if not isinstance(places, Mapping) or not places or architecture in NATIVE:
        return None
    place = str(places.get("AutoModel") or next(iter(places.values())))
    kind = content.get("model_type")
    return (
        f"{architecture[:_SHOWN]} (model_type {kind!r:.{_SHOWN}}) is not in transformers: its code is "
        f"{place[:_SHOWN]!r}, as auto_map says, and code that comes with a model is never run. The nearest model that "
        f"can be served: `python -m model pull {_nearest(f'{architecture} {kind} {place}')}`"
    )


def _nearest(names: str) -> str:
    folded = names.casefold()
    return next((model for pattern, model in _NEAREST.items() if re.search(pattern, folded)), _OTHERWISE)
