"""What Voyage takes and answers: /v1/multimodalembeddings, and its answer of /v1/rerank."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from service.schema.compat.common import Compatible, TokenUsage
from service.schema.compat.contents import ContentList
from service.schema.compat.openai import EmbeddingObject


class MultimodalRequest(Compatible):
    """Fields beside these are ignored."""

    inputs: ContentList
    output_encoding: Literal["base64"] | None = Field(None, description="base64: little-endian float32")
    output_dimension: int | None = Field(None, ge=1, description="keep only the first so many, then normalise again")


class MultimodalUsage(BaseModel):
    """What was computed; pixels are not counted here."""

    text_tokens: int
    image_pixels: int
    video_pixels: int
    total_tokens: int


class MultimodalAnswer(BaseModel):
    """One entry for each input, in order."""

    object: Literal["list"]
    data: list[EmbeddingObject]
    model: str
    usage: MultimodalUsage


class VoyageRelevance(BaseModel):
    """A document and how well it fits the query."""

    index: int
    relevance_score: float
    document: str | None = None


class VoyageRerankAnswer(BaseModel):
    """The documents, best first."""

    object: Literal["list"]
    data: list[VoyageRelevance]
    model: str
    usage: TokenUsage
