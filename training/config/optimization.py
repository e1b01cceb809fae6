"""The sections of what is optimised and how: `objective`, `optimizer`, `lock` and `stages`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from model.category_config import MAX_CATEGORIES
from model.config import MixtureConfig
from training.config.section import Section, Share

Beta = Annotated[float, Field(ge=0, lt=1)]


class Optimizer(Section):
    """AdamW, linear warm-up and cosine decay; gains, biases and the logit scale are not decayed."""

    learning_rate: float = Field(default=5e-4, gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.98)
    eps: float = Field(default=1e-6, gt=0)
    weight_decay: float = Field(default=0.2, ge=0)
    warmup_steps: int = Field(default=2000, ge=0)
    # Gradients whose norm, over all parameters, is larger are scaled down to it; null: none is.
    clip_norm: float | None = Field(default=1.0, gt=0)
    layer_decay: float = Field(default=1.0, gt=0, le=1)  # each layer learns at this share of the rate of the one above


def _in_order(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError(f"begins at {span[0]} and is done before, at {span[1]}")
    return span


Ramp = Annotated[tuple[Share, Share], AfterValidator(_in_order)]


class Rank(Section):
    """What RankCLIP adds to the paper's softmax, whose orders of a batch are to agree.

    A ramp is two shares of all steps: until the first a weight is 0, and from the second on it is the whole. The
    weights and ramps are those of the paper's code: to 2 / 32 in two thirds of the run.
    """

    cross_weight: float = Field(default=1 / 16, ge=0)  # of texts by an image, and of images by its text
    cross_ramp: Ramp = (0.0, 2 / 3)
    in_weight: float = Field(default=1 / 16, ge=0)  # of images by an image, and of texts by its text
    in_ramp: Ramp = (0.0, 2 / 3)


class Llip(MixtureConfig, Section):
    """How many vectors the image tower gives of a picture, and how they are mixed for each text."""

    @property
    def mixture(self) -> MixtureConfig:
        """As a model has it."""
        return MixtureConfig.model_validate(self.model_dump())


class Categories(Section):
    """Which WordNet synsets become the categories of CatLIP; paths are relative to the configuration file."""

    vocabulary: str | None = None  # a file of `python -m training categories --output`, instead of the frequent ones
    min_count: int = Field(default=5, ge=1)  # training pictures that a synset must be said of
    max_categories: int = Field(default=20_000, ge=1, le=MAX_CATEGORIES)  # the most frequent so many
    wordnet: str = "/usr/share/wordnet"  # WordNet's data files, as Debian's wordnet-base installs them


class Objective(Section):
    """The loss over a batch, by `kind`, whose own fields are the section of its name; and what a teacher sees."""

    # The paper's softmax, a sigmoid for each pair (SigLIP), the softmax and the order of the batch (RankCLIP), the
    # sigmoid of pictures that are mixed for each text (Llip), and that of categories (CatLIP).
    kind: Literal["contrastive", "sigmoid", "rank", "llip", "categories"] = "contrastive"
    rank: Rank = Rank()
    llip: Llip = Llip()
    categories: Categories = Categories()
    # A bundle whose similarities are learned, too (TinyCLIP's affinity mimicking), or `stored`, vectors in the shards.
    teacher: str | None = None
    teacher_weight: float = Field(default=1.0, gt=0)
    teacher_scale: float = Field(default=50.0, gt=0)  # by which the teacher's cosines are multiplied

    @model_validator(mode="before")
    @classmethod
    def _kind_alone(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _sections_are_of_the_kind(self) -> Objective:
        for name, field in type(self).model_fields.items():
            foreign = isinstance(field.default, Section) and name != self.kind
            if foreign and getattr(self, name) != field.default:
                raise ValueError(f"{name} is of another kind than {self.kind}: set kind to {name}, or leave it away")
        return self

    @model_validator(mode="after")
    def _mixed_without_a_teacher(self) -> Objective:
        if self.kind == "llip" and self.teacher is not None:
            raise ValueError(
                "teacher: its similarities are learned of one vector a picture, and llip mixes several for each text: "
                "leave it away, or set kind to sigmoid"
            )
        return self

    @model_validator(mode="after")
    def _categories_are_made_one_way(self) -> Objective:
        if self.kind == "categories" and self.teacher is not None:
            raise ValueError(
                "teacher compares pictures with texts, which kind: categories does not read: leave it away"
            )
        given = self.categories.vocabulary is not None
        defaults = Categories.model_fields
        for name in ("min_count", "max_categories"):
            if given and getattr(self.categories, name) != defaults[name].default:
                raise ValueError(
                    f"categories.{name} says how a vocabulary is made, and categories.vocabulary names one"
                )
        return self

    @model_validator(mode="after")
    def _teacher_fields_need_a_teacher(self) -> Objective:
        for name in ("teacher_weight", "teacher_scale"):
            if self.teacher is None and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is of a teacher: name one, or leave it away")
        return self


def _as_span(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value, value)


Span = Annotated[tuple[Share, Share], BeforeValidator(_as_span)]


class Lock(Section):
    """For which share of all steps a tower keeps its weights; 1: always, as LiT keeps the image tower.

    Of two shares the first is when its top layer begins to learn and the second when all of them do: between the two
    they are unlocked from the top down.
    """

    image: Span = (0.0, 0.0)
    text: Span = (0.0, 0.0)

    @model_validator(mode="after")
    def _spans_in_order(self) -> Lock:
        for name, (first, last) in (("image", self.image), ("text", self.text)):
            if first > last:
                raise ValueError(f"{name} begins to learn at {first} and wholly learns before, at {last}")
        return self


class Stage(Section):
    """From `start` (a share of all steps) on, crops have `pixels`."""

    start: float = Field(ge=0, lt=1)
    pixels: int = Field(gt=0)
