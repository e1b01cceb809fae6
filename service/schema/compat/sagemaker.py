"""What containers of SageMaker and Vertex AI are sent: /embed's and /classify's bodies, or Vertex's of instances."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, RootModel

from service.schema.answers import ClassifyAnswer, EmbedAnswer
from service.schema.items import Items
from service.schema.requests import ClassifyOptions, ClassifyRequest, EmbedOptions, EmbedRequest


class VertexRequest(BaseModel):
    """What Vertex AI sends."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    instances: Items
    parameters: dict[str, Any] | None = Field(
        None, description="the options of /embed, or with labels or label_set those of /classify"
    )


class InvocationRequest(RootModel[ClassifyRequest | EmbedRequest | VertexRequest]):
    """With labels or label_set as for /classify, without them as for /embed, and with instances as Vertex AI has it."""


class InvocationOptions(EmbedOptions, ClassifyOptions):
    """In the query of an image file, or in a form; those of /classify where there are labels or label_set."""


class PredictionsAnswer(BaseModel):
    """To instances: for each what /embed or /classify would have under data."""

    predictions: list[dict[str, Any]]


class InvocationAnswer(RootModel[ClassifyAnswer | EmbedAnswer | PredictionsAnswer]):
    """As /embed or /classify answer; or as Vertex AI reads it."""
