"""The section `data.captions`: in which templates labels are put, and how often each kind of text is sampled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from model.suggestions import not_one_of
from model.zeroshot import fill, template_sets
from training.config.section import MAX_WEIGHT, Names, Section

PHOTO_TEMPLATES = (
    "{}",
    "a {}",
    "a photo of a {}.",
    "a photo of the {}.",
    "a picture of a {}.",
    "an image of a {}.",
    "a close-up photo of a {}.",
    "one {}",
    "this is a {}.",
    "there is a {} here.",
)
# Photographs are asked for in the same words: of what only drawings have taught, too.
DRAWING_TEMPLATES = (*PHOTO_TEMPLATES, "a drawing of a {}.", "an emoji of a {}.", "clip art of a {}.")
TEMPLATE_SETS = {"photo-10": PHOTO_TEMPLATES, "drawing-13": DRAWING_TEMPLATES}  # beside those of the service


def templates_of(templates: str | Sequence[str]) -> Sequence[str]:
    """Templates by the name of their set, or as they are listed. Raises ValueError."""
    if not isinstance(templates, str):
        return templates
    sets = {**TEMPLATE_SETS, **template_sets()}
    if templates not in sets:
        raise ValueError(not_one_of(templates, sets))
    return sets[templates]


def _check(templates: str | list[str]) -> str | list[str]:
    listed = templates_of(templates)
    if not listed:
        raise ValueError("name a set of templates, or list at least one")
    for template in listed:
        fill(template, "label")
    return templates


Templates = Annotated[str | list[str], AfterValidator(_check)]
Weight = Annotated[float, Field(gt=0, le=MAX_WEIGHT)]


class CaptionWeights(Section):
    """How often each kind of text is sampled, relative to the others that an image has.

    A person's sentence says more than a label, a label more than its wider class or one of many keywords.
    """

    caption: Weight = 6.0
    label: Weight = 6.0
    synonym: Weight = 2.0
    coarse: Weight = 1.5
    tags: Weight = 1.5


def _as_ramp(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value, value)


MixWeight = Annotated[float, Field(ge=0, le=MAX_WEIGHT)]
Ramp = Annotated[tuple[MixWeight, MixWeight], BeforeValidator(_as_ramp)]  # at the start of the run and at its end
Sources = dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,49}$")], Names]
# Fields in which each kind of caption usually is, as they are `normalized`.
SOURCES = {
    "human": ["captions", "caption", "sentences", "sentence", "raw", "comment", "description"],
    "alt": ["alt_text", "alt", "title", "text", "txt"],
    "synthetic": ["syn_text"],
}


STORED = "stored"  # the teacher whose vectors lie with the samples


class CaptionFilters(Section):
    """Which captions are left out; where nothing is said, none."""

    min_words: int = Field(default=0, ge=0)
    max_words: int | None = Field(default=None, gt=0)
    max_pictures: int | None = Field(default=None, gt=0)  # a caption that is said of more pictures says nothing of any
    file_names: bool = False  # true: names of files, what cameras number, and addresses are left out
    # Codes of ISO 639-1, such as en: captions that are surely in another language are left out.
    languages: Names = Field(default=[])
    # Cosine of caption and picture under `teacher`: captions below it are left out.
    min_similarity: float | None = Field(default=None, ge=-1, le=1)

    @model_validator(mode="after")
    def _bounds_in_order(self) -> CaptionFilters:
        if self.max_words is not None and self.max_words < self.min_words:
            raise ValueError(f"max_words {self.max_words} is less than min_words {self.min_words}")
        return self


class Captions(Section):
    """How the caption of an image is sampled from its texts."""

    templates: Templates = "photo-10"  # of labels: a list, or the name of a set
    transparent_templates: Templates = "drawing-13"  # likewise, of images without a background
    weights: CaptionWeights = CaptionWeights()
    sources: Sources = Field(default=SOURCES, min_length=1)  # of captions: name: the fields or columns that are of it
    # Of captions, how often each source is drawn, relative to the others that an image has: a number, or two, at the
    # start of the run and at its end. A source without one is not drawn; with none of them all captions count alike.
    mix: dict[str, Ramp] = Field(default={})
    filters: CaptionFilters = CaptionFilters()
    # What judges captions, for `filters.min_similarity` and the report: a bundle, or `stored`, vectors in the shards.
    teacher: str | None = None

    @field_validator("sources")
    @classmethod
    def _one_source_a_field(cls, sources: dict[str, list[str]]) -> dict[str, list[str]]:
        named: dict[str, str] = {}
        normalized = {
            source: [re.sub(r"[\s-]+", "_", field.strip()).casefold() for field in fields]
            for source, fields in sources.items()
        }
        for source, fields in normalized.items():
            for field in fields:
                if named.setdefault(field, source) != source:
                    raise ValueError(f"the field {field} is of {named[field]} and of {source}")
        return normalized

    @model_validator(mode="after")
    def _mix_of_sources(self) -> Captions:
        for name in self.mix:
            if name not in self.sources:
                raise ValueError(f"mix: {not_one_of(name, self.sources)}")
        for when, place in (("start", 0), ("end", 1)):
            if self.mix and not any(ramp[place] for ramp in self.mix.values()):
                raise ValueError(f"mix: at the {when} of the run no source has a weight")
        return self

    @model_validator(mode="after")
    def _similarity_of_a_teacher(self) -> Captions:
        if self.filters.min_similarity is not None and self.teacher is None:
            raise ValueError(f"filters.min_similarity is under a teacher: name a bundle as teacher, or {STORED}")
        return self

    @property
    def field_names(self) -> tuple[str, ...]:
        """The fields that are read as captions because a source names them, in order."""
        if self.sources == SOURCES:
            return ()
        return tuple(field for fields in self.sources.values() for field in fields if field != "description")
