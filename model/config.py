"""Configurations of CLIP models: the published ones as JSON presets, and the schema that checks any other.

Source of the figures: Radford et al. 2021 (arXiv 2103.00020), tables 19 and 20; Wu et al. 2023 (TinyCLIP).
"""

from __future__ import annotations

from importlib import resources
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


class PresetError(ValueError):
    """A name that no shipped configuration has."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ViTConfig(_Frozen):
    """Vision transformer: square patches of `patch_size` pixels, a class token, `layers` pre-norm blocks."""

    kind: Literal["vit"] = "vit"
    image_size: int = Field(gt=0, le=4096)
    patch_size: int = Field(gt=0)
    width: int = Field(gt=0)
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)

    @model_validator(mode="after")
    def _divides(self) -> ViTConfig:
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class ResNetConfig(_Frozen):
    """ModifiedResNet: `layers` blocks in each of four stages, `width` channels in the first, attention pooling.

    The published models have bottlenecks; basic blocks (two 3x3 convolutions) suit small pictures and few channels.
    """

    kind: Literal["resnet"] = "resnet"
    block: Literal["bottleneck", "basic"] = "bottleneck"
    image_size: int = Field(gt=0, le=4096, multiple_of=32)
    width: int = Field(gt=0, multiple_of=2)
    layers: tuple[int, int, int, int]
    heads: int = Field(gt=0)

    @property
    def features(self) -> int:
        """Channels that reach the attention pool."""
        return self.width * (32 if self.block == "bottleneck" else 8)

    @model_validator(mode="after")
    def _divides(self) -> ResNetConfig:
        if self.features % self.heads:
            raise ValueError(f"{self.features} pooled features are not a multiple of heads {self.heads}")
        if min(self.layers) < 1:
            raise ValueError("every stage needs at least one layer")
        return self


class TextConfig(_Frozen):
    """Causal text transformer, pooled at the end-of-text token."""

    context_length: int = Field(default=77, ge=3, le=4096)
    vocab_size: int = Field(default=49408, ge=515)
    width: int = Field(gt=0)
    heads: int = Field(gt=0)
    layers: int = Field(gt=0)

    @model_validator(mode="after")
    def _divides(self) -> TextConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class Preprocessing(_Frozen):
    """How a picture becomes [size, size, 3] uint8; `mean` and `std` are applied inside the image graph.

    `exif_orientation=False` with `alpha="drop"` is the behaviour of OpenAI's reference, bit for bit.
    """

    size: int = Field(gt=0, le=4096)
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    resize_mode: Literal["shortest", "squash"] = "shortest"
    exif_orientation: bool = True
    alpha: Literal["white", "drop"] = "white"

    @property
    def draft_size(self) -> int | None:
        """What a JPEG may be decoded for at less than its full size; None where every bit must be the reference's."""
        bit_exact = self.alpha == "drop" and not self.exif_orientation
        return None if bit_exact else self.size


class ModelConfig(_Frozen):
    """One CLIP: an image tower and a text tower that meet in `embed_dim` dimensions."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9@._-]*$", max_length=100)
    embed_dim: int = Field(gt=0)
    activation: Literal["quick_gelu", "gelu"]
    image: Annotated[ViTConfig | ResNetConfig, Field(discriminator="kind")]
    text: TextConfig


def preset_names() -> list[str]:
    """Names that `load_preset` knows, in alphabetical order."""
    files = resources.files("model").joinpath("presets").iterdir()
    return sorted(f.name.removesuffix(".json") for f in files if f.name.endswith(".json"))


def load_preset(name: str) -> ModelConfig:
    """Read a shipped configuration; `ViT-B/32` and `ViT-B-32` name the same one.

    Raises PresetError that lists the known names.
    """
    known = preset_names()
    file_name = name.replace("/", "-")
    if file_name not in known:
        raise PresetError(f"no preset {name!r}; there are: {', '.join(known)}")
    text = resources.files("model").joinpath("presets", f"{file_name}.json").read_text("utf-8")
    return ModelConfig.model_validate_json(text)
