"""/v1/embeddings and /v1/models: what OpenAI, Jina and Infinity take and answer."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import AliasChoices, BaseModel, Field, PlainValidator, WithJsonSchema, model_validator

from service.errors import ApiError
from service.schema.compat.common import Compatible, TokenUsage
from service.schema.compat.contents import MessageList
from service.schema.compat.items import AnyItems
from service.schema.requests import EncodingFormat

FORMATS: tuple[EncodingFormat, ...] = get_args(EncodingFormat)


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


class EmbeddingsRequest(Compatible):
    """What OpenAI, Jina, Infinity and vLLM take. Fields beside these are ignored."""

    SOURCES: ClassVar[tuple[str, ...]] = ("input", "messages")

    modality: Literal["text", "image", "audio"] | None = Field(
        None, description="Infinity's: image makes strings in `input` pictures; audio is refused"
    )
    input: AnyItems | None = Field(
        None, description="token ids are refused: they are those of another model's tokenizer"
    )
    messages: MessageList = None
    encoding_format: EncodingFormat | None = Field(None, description="as in /embed; float if not given")
    embedding_type: EncodingFormats | None = Field(
        None,
        validation_alias=AliasChoices("embedding_type", "encoding_type", "output_dtype"),
        description="Jina's name for encoding_format, and stronger than it. With several, each embedding is an object "
        "with one entry for each type.",
    )
    dimensions: int | None = Field(
        None,
        ge=0,
        validation_alias=AliasChoices("dimensions", "output_dimension"),
        description="keep only the first so many, then normalise again; 0 or nothing for all",
    )
    normalized: bool | None = Field(None, description="Jina's: false leaves a cut vector as it was cut")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        found = [name for name in self.SOURCES if getattr(self, name) is not None]
        if not found:
            raise ApiError("invalid_request", "This field is missing.", "input")
        if len(found) > 1:
            raise ApiError("invalid_request", f"Send one of {' and '.join(found)}.", found[0])
        return self

    def formats(self) -> list[EncodingFormat]:
        """Those wanted, at least one. The openai client fills in encoding_format by itself, so it is the weaker one."""
        return self.embedding_type or [self.encoding_format or "float"]


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


class ModelObject(BaseModel):
    """A model served."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="when the bundle was made, in seconds since 1970")
    owned_by: Literal["sightword"] = "sightword"
    mixture_tokens: int | None = Field(
        None,
        description="vectors that it makes of a picture, which are mixed for each text; left out where it is one",
        exclude_if=lambda tokens: tokens is None,
    )


class ModelList(BaseModel):
    """The models served, the default one first."""

    object: Literal["list"] = "list"
    data: list[ModelObject]
