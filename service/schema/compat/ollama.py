"""What Ollama takes and answers: /api/embed, its older /api/embeddings, /api/tags and /api/version."""

from __future__ import annotations

from pydantic import BaseModel, Field

from service.schema.compat.common import Compatible
from service.schema.compat.items import AnyItem, AnyItems


class EmbedRequest(Compatible):
    """Fields beside these are ignored."""

    input: AnyItems
    dimensions: int | None = Field(None, ge=1, description="keep only the first so many, then normalise again")


class PromptRequest(Compatible):
    """Fields beside these are ignored."""

    prompt: AnyItem


class EmbedAnswer(BaseModel):
    """Vectors in the order of the inputs; durations in nanoseconds."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int = Field(description="tokens")


class PromptAnswer(BaseModel):
    """The vector of the prompt."""

    embedding: list[float]


class Details(BaseModel):
    """Of a model."""

    format: str = "onnx"
    family: str = "clip"
    quantization_level: str


class Tag(BaseModel):
    """A model served."""

    name: str
    model: str
    modified_at: str
    size: int = 0
    digest: str
    details: Details


class TagsAnswer(BaseModel):
    """The models served, the default one first."""

    models: list[Tag]


class VersionAnswer(BaseModel):
    """Of this service."""

    version: str
