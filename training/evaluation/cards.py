"""The data sets of the CLIP paper, its shifts of ImageNet and two of captions, as cards: what each is, where it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from model.zeroshot import template_sets

# The columns of `reference`.
REFERENCE_MODELS = ("RN50", "ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336")
Percents = list[float | None]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Reference(_Frozen):
    """Zero-shot figures in percent, in the order of REFERENCE_MODELS, where they are known."""

    paper: Percents = []  # Radford et al. 2021, table 11
    laion: Percents = []  # measured again by LAION: open_clip's docs/openclip_results.csv


class Folders(_Frozen):
    """A folder for each class. `ids` tells what their names are, if not those of the classes."""

    kind: Literal["folders"]
    archives: list[str]
    train: str | None = None
    test: str
    ids: Literal["wordnet", "index"] | list[str] | None = None


class Lists(_Frozen):
    """Text files with a line for each picture, from which `line` reads `file` and `label`."""

    kind: Literal["list"]
    archives: list[str]
    train: str | list[str]
    test: str | list[str]
    line: str
    picture: str


class Cifar(_Frozen):
    """The binary form of CIFAR: of each record `labels` bytes, of which the last is the class, and 32x32 planes."""

    kind: Literal["cifar"]
    archives: list[str]
    train: list[str]
    test: list[str]
    names: str
    labels: int


class Idx(_Frozen):
    """MNIST's idx files, gzipped or not: pictures and labels."""

    kind: Literal["idx"]
    archives: list[str]
    train: list[str]
    test: list[str]


class SpecialFormat(_Frozen):
    """The file format of one data set alone, read by code of its own."""

    kind: Literal["stl10", "flowers"]
    archives: list[str]


class Voc(_Frozen):
    """Pascal VOC: a list of keys, an XML file and a JPEG each; objects marked difficult do not count."""

    kind: Literal["voc"]
    archives: list[str]
    root: str
    train: str
    test: str


Layout = Annotated[Folders | Lists | Cifar | Idx | SpecialFormat | Voc, Field(discriminator="kind")]


class DatasetCard(_Frozen):
    """A data set of the registry. `train` and `test` are numbers of pictures as the paper gives them."""

    key: str
    title: str
    classes: int
    train: int
    test: int
    metric: str  # the headline figure
    templates: list[str]  # the paper's, or the name of a template set
    licence: str
    obtain: str
    names: str | None = None  # a key of classnames.json; else the data set brings its own
    layout: Layout | None = None  # of the published archives; else folders or CLIP_benchmark's layout
    shift_of: str | None = None
    reference: Reference | None = None

    def prompt_templates(self) -> list[str]:
        """The templates, with the name of a set replaced by its templates."""
        return [template for name in self.templates for template in template_sets().get(name, (name,))]


@cache
def cards() -> Mapping[str, DatasetCard]:
    """The cards of all data sets by key, in the order of the paper."""
    text = resources.files("training.evaluation").joinpath("cards.json").read_text("utf-8")
    return MappingProxyType({card["key"]: DatasetCard.model_validate(card) for card in json.loads(text)})


@cache
def class_names(key: str) -> list[str]:
    """Class names for prompts by index; `wordnet` gives ImageNet's WordNet ids in the same order as imagenet1k."""
    text = resources.files("training.evaluation").joinpath("classnames.json").read_text("utf-8")
    names: list[str] = json.loads(text)[key]
    return names
