"""What Ollama takes and answers: /api/embed, its older /api/embeddings, /api/tags and /api/version."""

from __future__ import annotations

from pydantic import BaseModel, Field

from service.schema.compat.common import Compatible
from service.schema.compat.items import AnyItem, AnyItems


class OllamaEmbedRequest(Compatible):
    """Fields beside these are ignored."""

    input: AnyItems
    dimensions: int | None = Field(None, ge=1, description="keep only the first so many, then normalise again")


class OllamaPromptRequest(Compatible):
    """Fields beside these are ignored."""

    prompt: AnyItem


class OllamaEmbedAnswer(BaseModel):
    """Vectors in the order of the inputs; durations in nanoseconds."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int = Field(description="tokens")


class OllamaPromptAnswer(BaseModel):
    """The vector of the prompt."""

    embedding: list[float]


class OllamaDetails(BaseModel):
    """Of a model."""

    format: str = "onnx"
    family: str = "clip"
    quantization_level: str


class OllamaTag(BaseModel):
    """A model served."""

    name: str
    model: str
    modified_at: str
    size: int = 0
    digest: str
    details: OllamaDetails


class OllamaTagsAnswer(BaseModel):
    """The models served, the default one first."""

    models: list[OllamaTag]


class OllamaVersionAnswer(BaseModel):
    """Of this service."""

    version: str
