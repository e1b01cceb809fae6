"""What Roboflow's inference server takes and answers: /clip/embed_image, /clip/embed_text and /clip/compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationInfo, WithJsonSchema

from service.errors import ApiError
from service.schema.compat.items import AnyItems, parse_any_image
from service.schema.items import BadItem, Item, check_count, parse_item
from service.settings import Settings

ItemType = Literal["image", "text"]


@dataclass(frozen=True, slots=True)
class Prompts:
    """What a subject is compared with; `names` where they were sent by name."""

    items: list[Item]
    names: list[str] | None


def _image(value: object, path: str, settings: Settings) -> Item:
    """An image as an object of type and value, or bare."""
    kind, content = (value.get("type"), value.get("value")) if isinstance(value, dict) else ("base64", value)
    if kind in ("base64", "url"):
        return parse_any_image(content, f"{path}.value" if isinstance(value, dict) else path, settings)
    if kind in ("numpy", "numpy_object"):
        message = "A numpy image is a pickle, which can run code and is not read: send type base64 or url."
    else:
        message = 'An image is {"type": "base64", "value": "..."}, or of type url.'
    return BadItem(ApiError("invalid_request", message, f"{path}.type" if isinstance(value, dict) else path))


def _parse_images(value: object, info: ValidationInfo[Settings]) -> list[Item]:
    field = str(info.field_name)
    if not isinstance(value, list):
        return [_image(value, field, info.context)]
    if not value:
        raise ApiError("invalid_request", "This list is empty; send at least one image.", field)
    check_count(len(value), info.context.compatible_items(), "items", field)
    return [_image(each, f"{field}.{index}", info.context) for index, each in enumerate(value)]


def _one(value: object, kind: str, path: str, settings: Settings) -> Item:
    if kind == "image":
        return _image(value, path, settings)
    if not isinstance(value, str):
        return BadItem(ApiError("invalid_request", "This must be a string.", path))
    return parse_item(value, path, settings)


def _parse_subject(value: object, info: ValidationInfo[Settings]) -> Item:
    return _one(value, info.data.get("subject_type", "image"), "subject", info.context)


def _parse_prompt(value: object, info: ValidationInfo[Settings]) -> Prompts:
    kind = info.data.get("prompt_type", "text")
    named = isinstance(value, dict) and not (kind == "image" and "type" in value)
    if isinstance(value, dict) and named:
        entries: list[tuple[str, object]] = [(f"prompt.{name}", each) for name, each in value.items()]
    elif isinstance(value, list):
        entries = [(f"prompt.{index}", each) for index, each in enumerate(value)]
    else:
        entries = [("prompt", value)]
    if not entries:
        raise ApiError("invalid_request", "Send at least one prompt.", "prompt")
    check_count(len(entries), info.context.compatible_items(), "items", "prompt")
    items = [_one(each, kind, path, info.context) for path, each in entries]
    return Prompts(items, list(value) if isinstance(value, Mapping) and named else None)


_IMAGE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"type": {"enum": ["base64", "url"]}, "value": {"type": "string", "minLength": 1}},
    "required": ["type", "value"],
}


class ClipRequest(BaseModel):
    """What every request may say. Fields beside these are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    clip_version_id: str | None = Field(None, description="id of the model, or an alias; the first one if not given")


class EmbedImageRequest(ClipRequest):
    """One image or a list of them."""

    image: Annotated[
        list[Item],
        PlainValidator(_parse_images),
        WithJsonSchema({"anyOf": [_IMAGE_SCHEMA, {"type": "array", "items": _IMAGE_SCHEMA, "minItems": 1}]}),
    ]


class EmbedTextRequest(ClipRequest):
    """One text or a list of them."""

    text: AnyItems


class CompareRequest(ClipRequest):
    """A subject and what it is compared with."""

    subject_type: ItemType = "image"
    subject: Annotated[
        Item, PlainValidator(_parse_subject), WithJsonSchema({"anyOf": [_IMAGE_SCHEMA, {"type": "string"}]})
    ]
    prompt_type: ItemType = "text"
    prompt: Annotated[
        Prompts,
        PlainValidator(_parse_prompt),
        WithJsonSchema({"description": "an item, a list of items, or an object of items by name"}),
    ]


class ClipAnswer(BaseModel):
    """Beside the answer."""

    inference_id: str
    frame_id: int | None
    time: float = Field(description="seconds")


class EmbeddingsByOrder(ClipAnswer):
    """Vectors in the order of the items."""

    embeddings: list[list[float]]


class CompareAnswer(ClipAnswer):
    """Cosines, as the prompts were sent: in order or by name."""

    similarity: list[float] | dict[str, float]
    parent_id: str | None
