"""POST /models/{id}: what Hugging Face's clients send, for zero-shot image classification and feature extraction."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from service.schema.compat.common import Direction, PromptName
from service.schema.compat.items import parse_any_image, parse_any_list
from service.schema.items import Item
from service.settings import Settings

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


def _parse_inputs(value: object, info: ValidationInfo[Settings]) -> list[Item]:
    """A picture where there are labels to choose from, bare or as `{"image": ...}`; else texts, of which features."""
    if info.data.get("parameters") is None:
        return parse_any_list(value, info)
    if isinstance(value, dict):
        return [parse_any_image(value.get("image"), "inputs.image", info.context)]
    return [parse_any_image(value, "inputs", info.context)]


class TaskRequest(BaseModel):
    """Zero-shot image classification with `parameters`, or without them feature extraction. Others are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    parameters: TaskParameters | None = None
    truncation_direction: Direction = Field(None, description="of features: the side at which texts are cut")
    inputs: Annotated[
        list[Item],
        PlainValidator(_parse_inputs),
        WithJsonSchema({"description": "with parameters a picture, without them a text or a list of texts"}),
    ]
    truncate: bool | None = Field(None, description="of features: cut texts that are longer than the context")
    prompt_name: PromptName = Field(None, description="refused")
