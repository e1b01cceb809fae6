"""Requests and answers of the native endpoints. The routes write answers themselves; their models document them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from model.zeroshot import DEFAULT_TEMPLATES
from service.errors import ApiError, ErrorDetail
from service.items import Items, check_count
from service.settings import Settings

EncodingFormat = Literal["float", "base64", "int8", "binary", "ubinary"]
OnError = Literal["fail", "item"]
TopK = Annotated[int | None, Field(None, ge=1, description="how many of the best to answer; all if not given")]


def _counted(value: object, info: ValidationInfo[Settings]) -> object:
    if isinstance(value, list):
        check_count(len(value), info.context.max_labels, str(info.field_name), str(info.field_name))
    return value


Counted = BeforeValidator(_counted)


class Options(BaseModel):
    """What every request may say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(None, description="id of the model; the first one served if not given")
    truncate: bool | None = Field(
        None, description="cut texts that are longer than the context, instead of refusing them"
    )


class EmbedOptions(Options):
    """How vectors are wanted."""

    dimensions: int | None = Field(None, ge=1, description="keep only the first so many, then normalise again")
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


class ClassifyOptions(Options):
    """What to choose from, and how."""

    labels: Annotated[list[str], Counted] | None = Field(None, min_length=1, description="what to choose from")
    label_set: str | None = Field(None, description="name of a stored label set, instead of labels")
    templates: Annotated[list[str], Counted] | None = Field(
        None, min_length=1, description=f"each with one {{}} for the label; {list(DEFAULT_TEMPLATES)} if not given"
    )
    template_set: str | None = Field(None, description="name of a template set, instead of templates")
    top_k: TopK
    multi_label: bool = Field(False, description="judge each label alone, against the template without a label")
    threshold: float | None = Field(None, ge=0, le=1, allow_inf_nan=False, description="drop lower scores")
    on_error: OnError = "fail"

    @field_validator("labels")
    @classmethod
    def _labels_tell_apart(cls, labels: list[str] | None) -> list[str] | None:
        seen: set[str] = set()
        for index, label in enumerate(labels or ()):
            if not label or label.isspace():
                raise ApiError("invalid_request", "This label is empty.", f"labels.{index}")
            if label in seen:
                raise ApiError("invalid_request", "This label is there twice; each must differ.", f"labels.{index}")
            seen.add(label)
        return labels

    @field_validator("templates")
    @classmethod
    def _templates_have_one_place(cls, templates: list[str] | None) -> list[str] | None:
        for index, template in enumerate(templates or ()):
            if template.count("{}") != 1:
                raise ApiError(
                    "invalid_template", "A template needs exactly one {}, where the label goes.", f"templates.{index}"
                )
        return templates

    @model_validator(mode="after")
    def _one_source_each(self, info: ValidationInfo[Settings]) -> Self:
        if (self.labels is None) == (self.label_set is None):
            raise ApiError("invalid_request", "Give either labels or label_set.", "labels")
        if self.templates is not None and self.template_set is not None:
            raise ApiError("invalid_request", "Give either templates or template_set.", "template_set")
        check_count(
            len(self.labels or ()) * len(self.templates or DEFAULT_TEMPLATES),
            info.context.max_labels,
            "labels times templates",
            "templates" if self.templates else "labels",
        )
        return self


class ClassifyRequest(ClassifyOptions):
    """Texts and images to classify."""

    inputs: Items


class Usage(BaseModel):
    """What was computed."""

    texts: int
    tokens: int
    images: int


class ItemError(BaseModel):
    """A bad item, with `on_error: item`."""

    index: int
    error: ErrorDetail


class Embedding(BaseModel):
    """The vector of one item."""

    index: int
    embedding: list[float] | list[int] | str
    truncated: bool


class EmbedAnswer(BaseModel):
    """One entry for each input, in order."""

    model: str
    data: list[Embedding | ItemError]
    usage: Usage


class Ranked(BaseModel):
    """A candidate."""

    index: int
    cosine: float
    probability: float


class SimilarityAnswer(BaseModel):
    """Matrices of queries by candidates."""

    model: str
    cosine: list[list[float]] = Field(description="queries by candidates")
    probability: list[list[float]] = Field(description="softmax of logit scale times cosine, per query")
    ranking: list[list[Ranked]] | None = Field(None, description="with top_k: the best candidates of each query")
    usage: Usage


class Prediction(BaseModel):
    """A label and how well it fits."""

    label: str
    score: float
    cosine: float


class Classification(BaseModel):
    """The labels of one item."""

    index: int
    label: str | None = Field(description="the best label; null where no score reaches the threshold")
    score: float | None
    predictions: list[Prediction] = Field(description="best first")


class ClassifyAnswer(BaseModel):
    """One entry for each input, in order."""

    model: str
    data: list[Classification | ItemError]
    usage: Usage


class ServedModel(BaseModel):
    """A model and where it runs."""

    id: str
    digest: str
    dimensions: int
    context_length: int
    image_size: int
    logit_scale: float
    logit_bias: float | None
    precision: str
    provider: str = Field(description="the execution provider that is active")
    max_batch: dict[str, int] = Field(description="by tower")


class ModelsAnswer(BaseModel):
    """The models served, the default one first."""

    models: list[ServedModel]


class InfoAnswer(ModelsAnswer):
    """What is served, within which limits."""

    name: str
    version: str
    limits: dict[str, int | float | None]
    settings: dict[str, Any]


class HealthAnswer(BaseModel):
    """One word."""

    status: str
