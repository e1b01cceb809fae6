"""POST /models/{id}: what Hugging Face's clients send."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from service.schema.compat.items import Image

TASK_TEMPLATE = "This is a photo of {}."  # Hugging Face's own default


def _split(value: object) -> object:
    return [label.strip() for label in value.split(",") if label.strip()] if isinstance(value, str) else value


class TaskParameters(BaseModel):
    """What to choose from."""

    candidate_labels: Annotated[list[str], BeforeValidator(_split, json_schema_input_type=list[str] | str)] = Field(
        min_length=1, description="a list, or one string with commas"
    )
    hypothesis_template: str | None = Field(None, description=f'with one {{}} for the label; "{TASK_TEMPLATE}" if not')
    truncate: bool | None = Field(None, description="cut labels that are longer than the context")


class TaskRequest(BaseModel):
    """The zero-shot-image-classification task of Hugging Face. Fields beside these are ignored."""

    inputs: Image
    parameters: TaskParameters
