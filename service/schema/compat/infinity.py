"""What Infinity takes and answers at the root, and llama.cpp's `content` on the same path."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, PlainValidator, ValidationInfo, WithJsonSchema, model_validator

from service.errors import ApiError
from service.schema.compat.common import TokenUsage
from service.schema.compat.contents import Contents
from service.schema.compat.items import AnyItems, parse_any_image
from service.schema.compat.openai import EmbeddingsRequest
from service.schema.items import BadItem, Item, check_count, parse_item
from service.settings import Settings

MARKER = "<__media__>"  # stands in llama.cpp's prompts where a picture goes


def _parse_content(value: object, info: ValidationInfo[Settings]) -> Contents | None:
    """One prompt or a list of them: strings, or objects with `prompt_string` and `multimodal_data`."""
    if value is None:
        return None
    prompts = value if isinstance(value, list) else [value]
    contents = Contents([], [])
    for index, prompt in enumerate(prompts):
        path = f"content.{index}" if isinstance(value, list) else "content"
        parts = _parts(prompt, path, info.context)
        check_count(len(contents.items) + len(parts), info.context.compatible_items(), "parts", "content")
        contents.items.extend(parts)
        contents.counts.append(len(parts))
    if not prompts:
        raise ApiError("invalid_request", "This list is empty; send at least one prompt.", "content")
    return contents


def _parts(prompt: object, path: str, settings: Settings) -> list[Item]:
    if not isinstance(prompt, dict):
        return [parse_item(prompt, path, settings)]
    text, images = prompt.get("prompt_string"), prompt.get("multimodal_data") or []
    if not isinstance(text, str) or not isinstance(images, list):
        message = 'A prompt is a string, or {"prompt_string": "...", "multimodal_data": ["base64", ...]}.'
        return [BadItem(ApiError("invalid_request", message, path))]
    found = [parse_any_image(image, f"{path}.multimodal_data.{index}", settings) for index, image in enumerate(images)]
    words = text.replace(MARKER, " ").strip()
    if words or not found:
        found.append(parse_item(words, f"{path}.prompt_string", settings))
    return found


class RootEmbeddingsRequest(EmbeddingsRequest):
    """What Infinity takes, as /v1/embeddings, or `content` as llama.cpp does. Fields beside these are ignored."""

    input: AnyItems | None = Field(None, description="texts and pictures")  # type: ignore[assignment]
    content: Annotated[
        Contents | None,
        PlainValidator(_parse_content),
        WithJsonSchema({"description": "llama.cpp's: a prompt or a list of them"}),
    ] = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.input is None) == (self.content is None):
            raise ApiError("invalid_request", "Send one of input and content.", "input")
        return self


class PromptEmbedding(BaseModel):
    """The vector of a prompt."""

    index: int
    embedding: list[float]


class StringRelevance(BaseModel):
    """A document and how well it fits the query; the document as the string that it was."""

    index: int
    relevance_score: float
    document: str | None = None


class StringRerankAnswer(BaseModel):
    """The documents, best first."""

    id: str
    object: Literal["rerank"]
    results: list[StringRelevance]
    model: str
    usage: TokenUsage
    created: int


class PropsAnswer(BaseModel):
    """What llama.cpp's clients ask before they send pictures."""

    media_marker: str
    modalities: dict[str, bool]
    model_path: str
    default_generation_settings: dict[str, Any]
