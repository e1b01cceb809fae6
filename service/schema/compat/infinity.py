"""What Infinity takes and answers at the root, and llama.cpp's `content` on the same path."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, PlainValidator, ValidationInfo, WithJsonSchema, model_validator

from service.errors import ApiError
from service.schema.answers import ModelsAnswer
from service.schema.compat.common import Direction, TokenUsage
from service.schema.compat.contents import Contents
from service.schema.compat.items import AnyItems, parse_any_image
from service.schema.compat.jina import RerankRequest
from service.schema.compat.openai import EmbeddingsRequest
from service.schema.items import BadItem, Item, check_count, parse_item
from service.settings import Settings

CAPABILITIES = ("embed", "image_embed", "rerank", "classify")
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

    SOURCES = ("input", "messages", "content")

    content: Annotated[
        Contents | None,
        PlainValidator(_parse_content),
        WithJsonSchema({"description": "llama.cpp's: a prompt or a list of them"}),
    ] = None


class PromptEmbedding(BaseModel):
    """The vector of a prompt."""

    index: int
    embedding: list[float]


class _CutSide(BaseModel):
    """Read before the texts that it is about: the fields of the last base come first."""

    truncation_direction: Direction = Field(None, description="TEI's: the side at which texts are cut")


class RootRerankRequest(RerankRequest, _CutSide):
    """What Infinity takes, or `texts` as TEI does: Haystack's client of it puts /rerank at the root of any URL."""

    documents: AnyItems | None = Field(None, description="texts and pictures")  # type: ignore[assignment]
    texts: AnyItems | None = Field(None, description="TEI's; the answer is its list, too")
    return_text: bool | None = Field(None, description="TEI's: repeat each text in its result")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.documents is None) == (self.texts is None):
            raise ApiError("invalid_request", "Send one of documents and texts.", "documents")
        return self


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


class QueueStats(BaseModel):
    """How busy a model is: here, the service is."""

    queue_fraction: float = Field(description="how full the queue is, 0 to 1")
    queue_absolute: int = Field(description="items at work or waiting")
    results_pending: int = Field(description="the same")
    batch_size: int


class ListedModel(BaseModel):
    """A model as clients of Infinity read it."""

    id: str
    object: Literal["model"] = "model"
    owned_by: Literal["infinity"] = "infinity"  # its client knows no other
    created: int
    backend: Literal["onnxruntime"] = "onnxruntime"
    capabilities: tuple[str, ...] = CAPABILITIES
    stats: QueueStats


class ListedModelsAnswer(ModelsAnswer):
    """/models where this API is on: the models as ever, and in `data` as clients of Infinity read them."""

    object: Literal["list"] = "list"
    data: list[ListedModel]


class PropsAnswer(BaseModel):
    """What llama.cpp's clients ask before they send pictures."""

    media_marker: str
    modalities: dict[str, bool]
    model_path: str
    default_generation_settings: dict[str, Any]
