"""/v1/classify and /v1/rerank: what Jina takes and answers, and Cohere and Infinity."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.schema.answers import ItemError
from service.schema.compat.common import Compatible, LabelScore, ModelName, TokenUsage
from service.schema.compat.items import AnyItem, AnyItems
from service.schema.requests import ClassifyOptions


class LabelsRequest(ClassifyOptions):
    """What Jina takes, and the options of /classify. Fields beside these are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: ModelName = Field(None, description="id of the model; the first one served if not given")
    input: AnyItems


class RerankRequest(Compatible):
    """What Cohere, Jina, Infinity and Voyage take. Fields beside these are ignored."""

    query: AnyItem
    documents: AnyItems
    top_n: int | None = Field(None, ge=1, description="how many of the best to answer; all if not given")
    top_k: int | None = Field(None, ge=1, description="Voyage's top_n: sent, null too, it gets Voyage's answer")
    return_documents: bool | None = Field(None, description="repeat each document in its result")
    raw_scores: bool | None = Field(None, description="Infinity's: answer the cosine as relevance_score")

    @property
    def best(self) -> int | None:
        """How many to answer; all for None."""
        return self.top_n or self.top_k

    @property
    def is_voyage(self) -> bool:
        """Whether a client of Voyage asks: it sends top_k always, null where it was not chosen."""
        return "top_k" in self.model_fields_set


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
