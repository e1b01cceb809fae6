"""Requests and answers of the endpoints that clients of other services call.

They take every field that their originals define. What has no meaning here, such as `user`, `task`, `input_type` or
`late_chunking`, is ignored, and so is null for what may be left out.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
)

from service.errors import ApiError
from service.schema.answers import ItemError
from service.schema.compat_items import AnyItem, AnyItems, Image
from service.schema.requests import ClassifyOptions, EncodingFormat

UNSPECIFIED = "default/not-specified"  # what Infinity's clients send where no model was chosen
FORMATS: tuple[EncodingFormat, ...] = get_args(EncodingFormat)
TASK_TEMPLATE = "This is a photo of {}."  # Hugging Face's own default

ModelName = Annotated[str | None, AfterValidator(lambda name: None if name == UNSPECIFIED else name)]


def _formats(value: object) -> list[EncodingFormat]:
    names = value if isinstance(value, list) else [value]
    for index, name in enumerate(names):
        if name not in FORMATS:
            path = f"embedding_type.{index}" if isinstance(value, list) else "embedding_type"
            raise ApiError("invalid_request", f"This is none of {', '.join(FORMATS)}.", path)
    if not names:
        raise ApiError("invalid_request", "This list is empty; send at least one type.", "embedding_type")
    return list(dict.fromkeys(names))


_FORMAT_SCHEMA: dict[str, Any] = {"type": "string", "enum": list(FORMATS)}
EncodingFormats = Annotated[
    list[EncodingFormat],
    PlainValidator(_formats),
    WithJsonSchema({"anyOf": [_FORMAT_SCHEMA, {"type": "array", "items": _FORMAT_SCHEMA, "minItems": 1}]}),
]


class Compatible(BaseModel):
    """What every request may say."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: ModelName = Field(None, description="id of the model; the first one served if not given")
    truncate: bool | None = Field(
        None, description="cut texts that are longer than the context, instead of refusing them"
    )


class EmbeddingsRequest(Compatible):
    """What OpenAI, Jina and Infinity take. Fields beside these are ignored."""

    modality: Literal["text", "image", "audio"] | None = Field(
        None, description="Infinity's: image makes strings in `input` pictures; audio is refused"
    )
    input: AnyItems = Field(description="token ids are refused: they are those of another model's tokenizer")
    encoding_format: EncodingFormat | None = Field(None, description="as in /embed; float if not given")
    embedding_type: EncodingFormats | None = Field(
        None,
        validation_alias=AliasChoices("embedding_type", "encoding_type"),
        description="Jina's name for encoding_format, and stronger than it. With several, each embedding is an object "
        "with one entry for each type.",
    )
    dimensions: int | None = Field(
        None, ge=0, description="keep only the first so many, then normalise again; 0 or nothing for all"
    )
    normalized: bool | None = Field(None, description="Jina's: false leaves a cut vector as it was cut")

    def formats(self) -> list[EncodingFormat]:
        """Those wanted, at least one. The openai client fills in encoding_format by itself, so it is the weaker one."""
        return self.embedding_type or [self.encoding_format or "float"]


class LabelsRequest(ClassifyOptions):
    """What Jina takes, and the options of /classify. Fields beside these are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: ModelName = Field(None, description="id of the model; the first one served if not given")
    input: AnyItems


class RerankRequest(Compatible):
    """What Cohere, Jina and Infinity take. Fields beside these are ignored."""

    query: AnyItem
    documents: AnyItems
    top_n: int | None = Field(None, ge=1, description="how many of the best to answer; all if not given")
    return_documents: bool | None = Field(None, description="repeat each document in its result")
    raw_scores: bool | None = Field(None, description="Infinity's: answer the cosine as relevance_score")


def _split(value: object) -> object:
    return [label.strip() for label in value.split(",") if label.strip()] if isinstance(value, str) else value


class TaskParameters(BaseModel):
    """What to choose from."""

    candidate_labels: Annotated[list[str], BeforeValidator(_split, json_schema_input_type=list[str] | str)] = Field(
        min_length=1, description="a list, or one string with commas"
    )
    hypothesis_template: str | None = Field(None, description=f'with one {{}} for the label; "{TASK_TEMPLATE}" if not')
    truncate: bool | None = Field(None, description="cut labels that are longer than the context")


class TaskRequest(BaseModel):
    """The zero-shot-image-classification task of Hugging Face. Fields beside these are ignored."""

    inputs: Image
    parameters: TaskParameters


class TokenUsage(BaseModel):
    """Tokens of the model's own tokenizer, start and end included; pictures have none."""

    prompt_tokens: int
    total_tokens: int


def token_usage(usage: dict[str, int]) -> dict[str, int]:
    """Ours as OpenAI's: no tokens are made here, so that all of them are those of the request."""
    return {"prompt_tokens": usage["tokens"], "total_tokens": usage["tokens"]}


class EmbeddingObject(BaseModel):
    """The vector of one item."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | list[int] | str | dict[EncodingFormat, list[float] | list[int] | str]


class EmbeddingsAnswer(BaseModel):
    """One entry for each input, in order."""

    object: Literal["list"]
    data: list[EmbeddingObject]
    model: str
    usage: TokenUsage


class LabelScore(BaseModel):
    """A label and how well it fits."""

    label: str
    score: float


class ClassificationObject(BaseModel):
    """The labels of one item."""

    object: Literal["classification"]
    index: int
    prediction: str | None = Field(description="the best label; null where no score reaches the threshold")
    score: float | None
    predictions: list[LabelScore] = Field(description="best first")


class LabelsAnswer(BaseModel):
    """One entry for each input, in order."""

    object: Literal["list"]
    data: list[ClassificationObject | ItemError]
    model: str
    usage: TokenUsage


class TextDocument(BaseModel):
    """A document that is a text."""

    text: str


class ImageDocument(BaseModel):
    """A document that is a picture, as it was sent."""

    image: str


class Relevance(BaseModel):
    """A document and how well it fits the query."""

    index: int
    relevance_score: float = Field(
        description="0 to 1, and of this document alone: the others do not change it. (1 + cosine) / 2, which is not "
        "a probability; for sigmoid models the probability of the pair. Texts fit texts better than they fit "
        "pictures, so compare documents of one kind. With raw_scores: the cosine, -1 to 1."
    )
    document: TextDocument | ImageDocument | None = None


class RerankAnswer(BaseModel):
    """The documents, best first."""

    id: str = Field(description="the request's, as in x-request-id")
    object: Literal["list"]
    results: list[Relevance]
    model: str
    usage: TokenUsage


class ModelObject(BaseModel):
    """A model served."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="when the bundle was made, in seconds since 1970")
    owned_by: Literal["sightword"] = "sightword"


class ModelList(BaseModel):
    """The models served, the default one first."""

    object: Literal["list"] = "list"
    data: list[ModelObject]
