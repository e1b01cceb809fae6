"""Configurations of CLIP models: the published ones as JSON presets, and the schema that checks any other.

Source of the figures: Radford et al. 2021 (arXiv 2103.00020), tables 19 and 20; Wu et al. 2023 (TinyCLIP).
"""

from __future__ import annotations

from importlib import resources
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from model.category_config import CategoriesConfig
from model.frozen import Frozen
from model.pretrained_text import TransformersTextConfig
from model.suggestions import did_you_mean

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


class PresetError(ValueError):
    """A name that no shipped configuration has."""


# Far above any published model, and low enough that a forged configuration cannot make us build for ever.
Width = Annotated[int, Field(gt=0, le=16_384)]
Dimensions = Annotated[int, Field(gt=0, le=65_536)]  # of an embedding
Mean = Annotated[float, Field(ge=-1e6, le=1e6)]
Deviation = Annotated[float, Field(gt=0, le=1e6)]
Layers = Annotated[int, Field(gt=0, le=256)]
MlpWidth = Annotated[int | None, Field(gt=0, le=131_072)]  # None: four times the width
NormEps = Annotated[float, Field(gt=0, lt=0.1)]


# Of a model, and the id of its bundle: it is in addresses, headers and names of files.
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9@._-]*$", max_length=100)]


class TransformerConfig(Frozen):
    """What the configurations of all transformer towers share: the sizes of their stack of blocks."""

    width: Width
    layers: Layers
    heads: int = Field(gt=0)
    mlp_width: MlpWidth = None
    norm_eps: NormEps = 1e-5

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class ViTConfig(TransformerConfig):
    """Vision transformer: square patches of `patch_size` pixels, a class token, `layers` pre-norm blocks."""

    kind: Literal["vit"] = "vit"
    image_size: int = Field(gt=0, le=4096)
    patch_size: int = Field(gt=0)

    @model_validator(mode="after")
    def _divides(self) -> ViTConfig:
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        return self


class SiglipViTConfig(TransformerConfig):
    """Vision transformer of SigLIP: no class token; attention of one learned query pools, into `width` dimensions."""

    kind: Literal["siglip"] = "siglip"
    image_size: int = Field(gt=0, le=4096)
    patch_size: int = Field(gt=0)
    norm_eps: NormEps = 1e-6

    @property
    def grid(self) -> int:
        """Whole patches along a side; pixels that are left over are not looked at."""
        return self.image_size // self.patch_size

    @model_validator(mode="after")
    def _divides(self) -> SiglipViTConfig:
        if not self.grid:
            raise ValueError(f"image_size {self.image_size} is smaller than patch_size {self.patch_size}")
        return self


class ResNetConfig(Frozen):
    """ModifiedResNet: `layers` blocks in each of four stages, `width` channels in the first, attention pooling.

    The published models have bottlenecks; basic blocks (two 3x3 convolutions) suit small pictures and few channels.
    Their stem is deep: three convolutions at half the picture's size, then a pool. With few channels that is a third of
    the work; a strided stem is two convolutions, each of which halves the size.
    """

    kind: Literal["resnet"] = "resnet"
    block: Literal["bottleneck", "basic"] = "bottleneck"
    stem: Literal["deep", "strided"] = "deep"
    image_size: int = Field(gt=0, le=4096, multiple_of=32)
    width: int = Field(gt=0, le=4096, multiple_of=2)
    layers: tuple[Layers, Layers, Layers, Layers]
    heads: int = Field(gt=0)

    @property
    def features(self) -> int:
        """Channels that reach the attention pool."""
        return self.width * (32 if self.block == "bottleneck" else 8)

    @model_validator(mode="after")
    def _divides(self) -> ResNetConfig:
        if self.features % self.heads:
            raise ValueError(f"{self.features} pooled features are not a multiple of heads {self.heads}")
        return self


class TextConfig(TransformerConfig):
    """Causal text transformer, pooled at the end-of-text token."""

    kind: Literal["clip"] = "clip"
    context_length: int = Field(default=77, ge=3, le=4096)
    vocab_size: int = Field(default=49408, ge=515, le=1_000_000)

    @property
    def fixed_length(self) -> bool:
        """Whether texts must be padded to the context length; with a causal mask, padding changes nothing."""
        return False

    @property
    def pad_id(self) -> int:
        """What a row is filled up with."""
        return 0


class SiglipTextConfig(TransformerConfig):
    """Bidirectional text transformer of SigLIP, pooled at the last position: padding is part of what it reads."""

    kind: Literal["siglip"] = "siglip"
    context_length: int = Field(default=64, ge=3, le=4096)
    vocab_size: int = Field(default=32000, ge=3, le=1_000_000)
    norm_eps: NormEps = 1e-6
    eos_id: int = Field(default=1, ge=0)  # ends every text
    pad_id: int = Field(default=1, ge=0)  # fills it up to the context length
    # SigLIP: punctuation goes as well; so too with open_clip, where underscores part words; SigLIP 2: punctuation stays
    clean: Literal["canonicalize", "openclip", "lower"] = "canonicalize"

    @property
    def fixed_length(self) -> bool:
        """Whether texts must be padded to the context length."""
        return True

    @model_validator(mode="after")
    def _fits(self) -> SiglipTextConfig:
        if max(self.eos_id, self.pad_id) >= self.vocab_size:
            raise ValueError(f"eos_id and pad_id must be below vocab_size {self.vocab_size}")
        return self


def _text_kind(value: Any) -> str:
    """Manifests from before there were two kinds of text towers name none."""
    kind = value.get("kind", "clip") if isinstance(value, dict) else getattr(value, "kind", "clip")
    return str(kind)


class Preprocessing(Frozen):
    """How a picture becomes [size, size, 3] uint8; `mean` and `std` are applied inside the image graph.

    `exif_orientation=False` with `alpha="drop"` is the behaviour of OpenAI's reference, bit for bit. transformers
    leaves pictures as they are stored too, composites them on white, and crops at `floor`.

    `shortest` brings the shortest side to `size` and crops the centre; `squash` brings both sides to it; `longest`
    brings the longest side to it and centres the picture on grey of the level `fill_color`.
    """

    size: int = Field(gt=0, le=4096)
    mean: tuple[Mean, Mean, Mean] = OPENAI_MEAN
    std: tuple[Deviation, Deviation, Deviation] = OPENAI_STD
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    resize_mode: Literal["shortest", "squash", "longest"] = "shortest"
    # What the shortest side, or both, are brought to, where that is more than what is cropped out of it: ALIGN's 346.
    resize_size: int | None = Field(default=None, gt=0, le=4096)
    fill_color: int = Field(default=0, ge=0, le=255)
    exif_orientation: bool = True
    alpha: Literal["white", "drop"] = "white"
    crop: Literal["round", "floor"] = "round"  # of half the pixels that are cut off, where their number is odd

    @property
    def draft_size(self) -> int | None:
        """What a JPEG may be decoded for at less than its full size; None where every bit must be the reference's."""
        # A picture left as it is stored is treated as the reference does in all else.
        return (self.resize_size or self.size) if self.exif_orientation else None

    @model_validator(mode="after")
    def _belongs_to_the_mode(self) -> Self:
        if self.resize_size is not None and (self.resize_mode == "longest" or self.resize_size <= self.size):
            raise ValueError(f"resize_size {self.resize_size} leaves nothing to crop to size {self.size}")
        if self.fill_color and self.resize_mode != "longest":
            raise ValueError(f"fill_color {self.fill_color} fills nothing where resize_mode is {self.resize_mode!r}")
        return self


Activation = Literal["quick_gelu", "gelu", "gelu_tanh"]


MAX_MIXTURE_WEIGHTS = 4096  # of a picture and a text: a picture alone with a thousand texts has four million


class MixtureConfig(Frozen):
    """Llip (arXiv 2405.00740): a picture has `tokens` vectors, which attention of `heads` heads mixes for each text.

    The class token is the first of them. Heads and temperature are those of the paper; of its 64 tokens a quarter, as
    each is a vector to be kept of every picture.
    """

    tokens: int = Field(default=16, ge=1, le=256)
    heads: int = Field(default=8, ge=1, le=256)
    temperature: float = Field(default=5.0, ge=1e-3, le=1e6)  # the higher, the more alike all texts mix

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.tokens * self.heads > MAX_MIXTURE_WEIGHTS:
            raise ValueError(
                f"{self.tokens} tokens times {self.heads} heads are more weights for each picture and text than "
                f"{MAX_MIXTURE_WEIGHTS:,}"
            )
        return self


class ModelConfig(Frozen):
    """One CLIP: an image tower and a text tower that meet in `embed_dim` dimensions."""

    name: ModelName
    embed_dim: Dimensions
    activation: Activation
    text_activation: Activation | None = None  # of the text tower, where it has another one than the image tower
    image: Annotated[ViTConfig | ResNetConfig | SiglipViTConfig, Field(discriminator="kind")]
    text: Annotated[
        Annotated[TextConfig, Tag("clip")]
        | Annotated[SiglipTextConfig, Tag("siglip")]
        | Annotated[CategoriesConfig, Tag("categories")]
        | Annotated[TransformersTextConfig, Tag("transformers")],
        Discriminator(_text_kind),
    ]
    mixture: MixtureConfig | None = None  # of a vision transformer: one vector a picture where it is None

    @model_validator(mode="after")
    def _can_be_mixed(self) -> ModelConfig:
        if self.mixture is None:
            return self
        if self.image.kind != "vit":
            raise ValueError(
                f"an image tower of kind {self.image.kind} has no mixture tokens: only a vision transformer, of kind "
                "vit, has tokens of which some can stand for the picture"
            )
        if self.embed_dim % self.mixture.heads:
            raise ValueError(f"embed_dim {self.embed_dim} is not a multiple of the {self.mixture.heads} heads that mix")
        return self

    @model_validator(mode="after")
    def _towers_belong_together(self) -> ModelConfig:
        if (self.image.kind == "siglip") != (self.text.kind == "siglip"):
            raise ValueError(f"an image tower of kind {self.image.kind} has no text tower of kind {self.text.kind}")
        if self.image.kind == "siglip" and self.image.width != self.embed_dim:
            raise ValueError(f"embed_dim {self.embed_dim} is not the width {self.image.width} of the image tower")
        return self


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
        near = did_you_mean(file_name, known)
        raise PresetError(f"no preset {name!r}{near and f' ({near})'}; there are: {', '.join(known)}")
    text = resources.files("model").joinpath("presets", f"{file_name}.json").read_text("utf-8")
    return ModelConfig.model_validate_json(text)
