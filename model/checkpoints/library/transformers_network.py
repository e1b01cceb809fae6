"""Dual encoders of transformers behind our interface: how each family's processor and loss use its towers.

From the models and processors of transformers 5.23.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from model.library_config import LibraryConfig
from model.network import LibraryNetwork


@dataclass(frozen=True)
class Family:
    """How the original's code calls the towers of a class."""

    # What the text tower gets as its attention mask. Towers that are causal without one, and pool at the end of a
    # text, see nothing of what follows it: they need "none". AIMv2's is causal only in batches that have padding, which
    # its processor makes: it gets its mask always.
    mask: Literal["none", "causal", "padding"] = "none"
    scale: Literal["logit_scale", "temperature"] = "logit_scale"
    first_token: bool = False  # its features are of every token, and its loss takes the first
    any_size: bool = False  # of pictures: the size is the processor's to say
    max_tokens: int | None = None  # to which its processor pads
    head_of: str | None = None  # the class that is built, where this one is that with a head on it


FAMILIES: dict[str, Family] = {
    "AlignModel": Family("padding", "temperature", any_size=True, max_tokens=64),
    "Aimv2Model": Family("causal"),
    "AltCLIPModel": Family("padding"),
    "BlipModel": Family("padding"),
    "BlipForImageTextRetrieval": Family("padding"),
    "CLIPModel": Family(),
    "CLIPSegModel": Family(any_size=True),
    "CLIPSegForImageSegmentation": Family(any_size=True, head_of="CLIPSegModel"),
    "ChineseCLIPModel": Family("padding"),
    "FlavaModel": Family("padding", first_token=True),
    "FlavaForPreTraining": Family("padding", first_token=True, head_of="FlavaModel"),
    "GroupViTModel": Family(),
    "MetaClip2Model": Family(),
    "OwlViTModel": Family(),
    "OwlViTForObjectDetection": Family(head_of="OwlViTModel"),
    "SiglipModel": Family(),
    "Tipsv2Model": Family("padding", "temperature", max_tokens=64),
    "VisionTextDualEncoderModel": Family("padding"),
}


class TransformersNetwork(LibraryNetwork):
    """A model of one of `FAMILIES`."""

    def __init__(self, config: LibraryConfig, model: Any, family: Family, ends_with_padding: bool) -> None:
        """`ends_with_padding` says that the tokenizer ends its texts with the token that also fills rows up."""
        super().__init__(config, model, _logit_scale(model, family), getattr(model, "logit_bias", None))
        self.family, self.ends_with_padding = family, ends_with_padding

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [batch, 3, size, size] -> [batch, embed_dim], of any length."""
        if not hasattr(self.model, "get_image_features"):  # BlipForImageTextRetrieval
            vector: Tensor = self.model.vision_proj(self.model.vision_model(pixel_values=pixels)[0][:, 0])
            return vector
        return self._vector(self.model.get_image_features(pixel_values=pixels))

    def encode_text(self, token_ids: Tensor) -> Tensor:
        """Token ids [batch, length <= context], filled up with `pad_id` -> [batch, embed_dim], of any length."""
        given: dict[str, Tensor] = {"input_ids": token_ids}
        if self.family.mask == "causal":
            length = token_ids.shape[1]
            given["attention_mask"] = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
        elif self.family.mask == "padding":
            given["attention_mask"] = self._of_text(token_ids)
        if not hasattr(self.model, "get_text_features"):
            vector: Tensor = self.model.text_proj(self.model.text_encoder(**given)[0][:, 0])
            return vector
        return self._vector(self.model.get_text_features(**given))

    def _vector(self, output: Any) -> Tensor:
        pooled: Tensor = output if isinstance(output, Tensor) else output.pooler_output
        if self.family.first_token:
            pooled = pooled[:, 0]
        return pooled

    def _of_text(self, token_ids: Tensor) -> Tensor:
        """1 for tokens of the text, 0 for what fills the row up."""
        fills = (token_ids == self.config.text.pad_id).long()
        if self.ends_with_padding:  # the first of them is the text's
            fills = (fills.cumsum(1) > 1).long()
        return 1 - fills


def _logit_scale(model: Any, family: Family) -> Tensor:
    # The class with the matching head has none: its scores are the products.
    scale: Tensor = getattr(model, family.scale, torch.zeros(()))
    return -scale.detach().log() if family.scale == "temperature" else scale
