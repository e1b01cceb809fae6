"""What Text Embeddings Inference takes and answers: /embed, /rerank and /info, here under /tei."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service.schema.compat.common import Direction, PromptName
from service.schema.compat.items import AnyItem, AnyItems
from service.schema.items import Item, TextItem


class TeiEmbedRequest(BaseModel):
    """Fields beside these are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    truncation_direction: Direction = Field(None, description="the side at which texts are cut; right if not given")
    inputs: AnyItems = Field(description="token ids are refused: they are those of another model's tokenizer")
    truncate: bool | None = Field(None, description="cut texts that are longer than the context")
    normalize: bool | None = Field(None, description="false leaves a cut vector as it was cut")
    dimensions: int | None = Field(None, ge=1, description="keep only the first so many, then normalise again")
    prompt_name: PromptName = Field(None, description="refused")


class TeiRerankRequest(BaseModel):
    """Fields beside these are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    truncation_direction: Direction = None
    query: AnyItem
    texts: AnyItems
    truncate: bool | None = Field(None, description="cut texts that are longer than the context")
    raw_scores: bool | None = Field(None, description="answer the cosine as score")
    return_text: bool | None = Field(None, description="repeat each text in its result")


class TeiRank(BaseModel):
    """A text and how well it fits the query."""

    index: int
    score: float
    text: str | None = None


def to_ranks(order: Sequence[int], scores: Any, repeated: Sequence[Item] | None) -> Iterator[dict[str, Any]]:
    """The `TeiRank` of each index in `order`, with the texts that are to be repeated."""
    for index in order:
        rank = {"index": index, "score": scores[index]}
        if repeated is not None:
            item = repeated[index]
            rank["text"] = item.text if isinstance(item, TextItem) else None
        yield rank


class TeiInfoAnswer(BaseModel):
    """The first model served and the limits, under the names that TEI has for them."""

    model_id: str
    model_sha: str
    model_dtype: str
    served_model_name: str
    model_type: dict[str, Any]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None = None
    docker_label: str | None = None
