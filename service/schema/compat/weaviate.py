"""What Weaviate's module multi2vec-clip takes and answers: /vectorize and /meta."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service.schema.compat.items import ImageList, TextList


class VectorizeRequest(BaseModel):
    """Texts and pictures; either may be left out. Fields beside these are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    texts: TextList = Field([], description="texts")
    images: ImageList = Field([], description="pictures as base64")


class VectorizeAnswer(BaseModel):
    """The vectors of both lists, each in order."""

    textVectors: list[list[float]]  # noqa: N815
    imageVectors: list[list[float]]  # noqa: N815


class VectorizerMetaAnswer(BaseModel):
    """What Weaviate shows of its module under /v1/meta."""

    model: dict[str, Any]
