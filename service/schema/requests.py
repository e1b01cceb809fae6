"""Requests and answers of the native endpoints. The routes write answers themselves; their models document them."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from model.own_labels import LABEL_SET
from model.zeroshot import DEFAULT_TEMPLATES
from service.errors import ApiError
from service.schema.items import Items, check_count, check_surrogates
from service.settings import Settings

EncodingFormat = Literal["float", "base64", "int8", "binary", "ubinary"]
OnError = Literal["fail", "item"]
Output = Literal["vector", "tokens"]
_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)


def _check_json_number(value: object) -> object:
    """Of a query or a form, where numbers are text: no 1_000, +5 or other forms that Python reads, and JSON has not."""
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        message = "Input should be an integer or a number of at most 18 digits, as JSON writes it, such as 5 or 0.25"
        raise ValueError(message)
    return value


JsonNumber = BeforeValidator(_check_json_number)
ONE_SOURCE_OF_LABELS = "Give either labels or label_set."
TopK = Annotated[
    int | None, Field(None, ge=1, description="how many of the best to answer; all if not given"), JsonNumber
]


def _check_label_count(value: object, info: ValidationInfo[Settings]) -> object:
    if isinstance(value, list):
        check_count(len(value), info.context.max_labels, str(info.field_name), str(info.field_name))
    return value


WithinLabelLimit = BeforeValidator(_check_label_count)


def _check_distinct(labels: list[str]) -> list[str]:
    seen: set[str] = set()
    for index, label in enumerate(labels):
        if not label or label.isspace():
            raise ApiError("invalid_request", "This label is empty.", f"labels.{index}")
        check_surrogates(label, f"labels.{index}")
        same = " ".join(label.split())  # which no tokenizer tells apart, and forms are read without
        if same in seen:
            raise ApiError("invalid_request", "This label is there twice; each must differ.", f"labels.{index}")
        seen.add(same)
    return labels


def _check_placeholder(templates: list[str]) -> list[str]:
    for index, template in enumerate(templates):
        if template.count("{}") != 1:
            raise ApiError(
                "invalid_template", "A template needs exactly one {}, where the label goes.", f"templates.{index}"
            )
        check_surrogates(template, f"templates.{index}")
    return templates


Labels = Annotated[list[str], Field(min_length=1, fail_fast=True), AfterValidator(_check_distinct)]
Templates = Annotated[list[str], Field(min_length=1, fail_fast=True), AfterValidator(_check_placeholder)]


class Options(BaseModel):
    """What every request may say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(None, description="id of the model; the first one served if not given")
    truncate: bool | None = Field(
        None, description="cut texts that are longer than the context, instead of refusing them"
    )


class EmbedOptions(Options):
    """How vectors are wanted."""

    dimensions: Annotated[int | None, JsonNumber] = Field(
        None,
        ge=1,
        description="keep only the first so many, then normalise again; the header x-matryoshka-dimensions lists those "
        "that the model was trained for, where this is none of them",
    )
    output: Output = Field(
        "vector",
        description="vector: one of each item. tokens: a list of vectors of each: of a picture all that a mixture "
        "model (Llip; /info says how many) mixes for each text, of a text its one, and one of any item of another "
        "model; as base64, all of an item are one string, row by row",
    )
    normalize: bool = Field(True, description="vectors of length 1; false leaves a cut vector as it was cut")
    encoding_format: EncodingFormat = Field(
        "float",
        description="float: numbers. base64: little-endian float32. int8: scaled so that the largest component is "
        "±127. binary: one bit per component (set where it is positive), eight to a byte, most significant first, as "
        "signed bytes (packed - 128); ubinary: the same as unsigned bytes.",
    )
    on_error: OnError = Field("fail", description="item: a bad item gets its own error in its place, the rest succeed")


class EmbedRequest(EmbedOptions):
    """Texts and images to embed."""

    inputs: Items


class SimilarityRequest(Options):
    """Two lists to compare, each of texts and images."""

    queries: Items
    candidates: Items
    top_k: TopK
    on_error: OnError = Field(
        "fail", description="item: a bad query's row and a bad candidate's column are null, and `errors` says why"
    )


class TemplateOptions(Options):
    """What labels are put into."""

    templates: Annotated[Templates, WithinLabelLimit] | None = Field(
        None,
        description=f"each with one {{}} for the label; {list(DEFAULT_TEMPLATES)} if not given, and just the label for "
        "a model that knows categories by name only",
    )
    template_set: str | None = Field(None, description="name of a template set (see /info), instead of templates")

    @model_validator(mode="after")
    def _one_source_of_templates(self) -> Self:
        if self.templates is not None and self.template_set is not None:
            raise ApiError("invalid_request", "Give either templates or template_set.", "template_set")
        return self


class ClassifyOptions(TemplateOptions):
    """What to choose from, and how."""

    labels: Annotated[Labels, WithinLabelLimit] | None = Field(None, description="what to choose from")
    label_set: str | None = Field(
        None,
        description="name of a stored label set, instead of labels; it brings its own templates. A model that knows "
        f"categories by name only has them as `{LABEL_SET}`, which it also takes where neither is given",
    )
    top_k: TopK
    multi_label: bool = Field(
        False,
        description="judge each label alone, against the template without a label; a model that knows categories by "
        "name only always does, by its bias",
    )
    threshold: Annotated[float | None, JsonNumber] = Field(
        None, ge=0, le=1, allow_inf_nan=False, description="drop lower scores"
    )
    on_error: OnError = "fail"

    @model_validator(mode="after")
    def _one_source_of_labels(self) -> Self:
        if self.labels is not None and self.label_set is not None:
            raise ApiError("invalid_request", ONE_SOURCE_OF_LABELS, "labels")
        return self


class LabelSetRequest(TemplateOptions):
    """Labels to be stored under a name, embedded for one model at once and for the others when they are first used."""

    labels: Annotated[Labels, WithinLabelLimit] = Field(description="what to choose from; each must differ")


class ClassifyRequest(ClassifyOptions):
    """Texts and images to classify."""

    inputs: Items
