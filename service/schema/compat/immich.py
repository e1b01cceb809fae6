"""What immich sends to its machine learning server, and reads of it: /predict."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.errors import ApiError


class ClipModel(BaseModel):
    """Options, such as the language of a text, are ignored: no model here has any."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    modelName: str = Field(description="id of a model, or an alias, such as ViT-B-32__openai")  # noqa: N815


class ClipEntry(BaseModel):
    """One of the two towers."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    visual: ClipModel | None = None
    textual: ClipModel | None = None

    @model_validator(mode="after")
    def _one_tower(self) -> Self:
        if (self.visual is None) == (self.textual is None):
            raise ApiError("invalid_request", "Ask for visual or textual, one of them.", "clip")
        return self

    @property
    def tower(self) -> str:
        """As immich calls it."""
        return "visual" if self.visual else "textual"

    @property
    def name(self) -> str:
        """The model's."""
        chosen = self.visual or self.textual
        assert chosen is not None
        return chosen.modelName


class Entries(BaseModel):
    """Tasks by name. Those other than clip are passed on to the server of SIGHTWORD_IMMICH_FORWARD_URL."""

    model_config = ConfigDict(extra="allow", frozen=True)

    clip: ClipEntry | None = None

    @property
    def others(self) -> dict[str, Any]:
        """Tasks for another server, such as facial-recognition and ocr."""
        return self.model_extra or {}


class PredictRequest(BaseModel):
    """A form: the tasks as JSON, and a file or a text. Parts beside these are ignored."""

    model_config = ConfigDict(frozen=True)

    entries: Entries
    image: bytes | None = Field(None, description="the file")
    text: str | None = None


class PredictAnswer(BaseModel):
    """The results by task; those of other tasks as the other server gave them."""

    model_config = ConfigDict(extra="allow")

    clip: str | None = Field(None, description="the vector, as JSON in a string")
    imageHeight: int | None = None  # noqa: N815
    imageWidth: int | None = None  # noqa: N815
