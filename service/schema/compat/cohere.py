"""What Cohere takes and answers: /v1/embed, /v2/embed and /v2/rerank. Its older /v1/rerank is that of Jina."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, Field, PlainValidator, ValidationInfo, WithJsonSchema, model_validator

from service.errors import ApiError
from service.schema.compat.common import Compatible
from service.schema.compat.contents import ContentList
from service.schema.compat.items import AnyItem, AnyItems, ImageList, TextList
from service.settings import Settings

EmbeddingType = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]
TYPES: tuple[EmbeddingType, ...] = get_args(EmbeddingType)


def _check_types(value: object, info: ValidationInfo[Settings]) -> list[EmbeddingType] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value:
        raise ApiError("invalid_request", "This is a list of at least one type.", "embedding_types")
    for index, name in enumerate(value):
        if name not in TYPES:
            message = f"This is none of {', '.join(TYPES)}."
            raise ApiError("invalid_request", message, f"embedding_types.{index}")
    return list(dict.fromkeys(value))


EmbeddingTypes = Annotated[
    list[EmbeddingType] | None,
    PlainValidator(_check_types),
    WithJsonSchema({"type": "array", "items": {"type": "string", "enum": list(TYPES)}, "minItems": 1}),
]


class CohereEmbedRequest(Compatible):
    """One of `texts`, `images` and `inputs`. Fields beside these are ignored."""

    texts: TextList = Field([], description="texts")
    images: ImageList = Field([], description="pictures as data: URIs or base64")
    inputs: ContentList | None = None
    embedding_types: EmbeddingTypes = Field(None, description="float if not given; base64 is of little-endian float32")
    output_dimension: int | None = Field(None, ge=1, description="keep only the first so many, then normalise again")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("texts", "images", "inputs") if getattr(self, name)]
        if len(given) != 1:
            what = f"not {' and '.join(given)} together" if given else "there is none"
            param = given[-1] if given else "texts"
            raise ApiError("invalid_request", f"Send one of texts, images and inputs; {what}.", param)
        return self


class CohereRerankRequest(Compatible):
    """What Cohere takes. Fields beside these are ignored."""

    query: AnyItem
    documents: AnyItems
    top_n: int | None = Field(None, ge=1, description="how many of the best to answer; all if not given")


class BilledUnits(BaseModel):
    """What was computed."""

    input_tokens: int | None = None
    images: int | None = None
    search_units: int | None = None


class CohereMeta(BaseModel):
    """Beside the answer."""

    api_version: dict[str, str]
    billed_units: BilledUnits
    warnings: list[str] | None = Field(None, description="what was done to an input beyond embedding it")


class CohereFloatsAnswer(BaseModel):
    """/v1/embed without embedding_types."""

    response_type: Literal["embeddings_floats"]
    id: str
    embeddings: list[list[float]]
    texts: list[str]
    meta: CohereMeta


class CohereEmbedAnswer(BaseModel):
    """Vectors by type, each in the order of the inputs."""

    response_type: Literal["embeddings_by_type"]
    id: str
    embeddings: dict[EmbeddingType, list[Any]]
    texts: list[str]
    meta: CohereMeta


class CohereResult(BaseModel):
    """A document and how well it fits the query, 0 to 1."""

    index: int
    relevance_score: float


class CohereRerankAnswer(BaseModel):
    """The documents, best first."""

    id: str
    results: list[CohereResult]
    meta: CohereMeta
