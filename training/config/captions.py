"""The section `data.captions`: in which templates labels are put, and how often each kind of text is sampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from model.suggestions import not_one_of
from model.zeroshot import fill, template_sets
from training.config.section import Section

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
Weight = Annotated[float, Field(gt=0)]


class CaptionWeights(Section):
    """How often each kind of text is sampled, relative to the others that an image has.

    A person's sentence says more than a label, a label more than its wider class or one of many keywords.
    """

    caption: Weight = 6.0
    label: Weight = 6.0
    synonym: Weight = 2.0
    coarse: Weight = 1.5
    tags: Weight = 1.5


class Captions(Section):
    """How the caption of an image is sampled from its texts."""

    templates: Templates = "photo-10"  # of labels: a list, or the name of a set
    transparent_templates: Templates = "drawing-13"  # likewise, of images without a background
    weights: CaptionWeights = CaptionWeights()
