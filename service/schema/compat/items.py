"""Items as clients of other services write them: more names for the same two things, and fields without a meaning."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from service.errors import ApiError, without_frames
from service.schema.items import BadItem, Item, TextItem, check_count, parse_image, parse_item
from service.settings import Settings

_IMAGE_FIELDS = ("image", "url", "bytes")  # "url" and "bytes" come from older clients of Jina
_UNSUPPORTED_MEDIA = ("audio", "video", "pdf")
_REFUSED_IDS = (
    "These are token ids. They come from another model's tokenizer and would give wrong vectors without any error, so "
    "send the texts themselves; LangChain's OpenAIEmbeddings does with check_embedding_ctx_length=False."
)


def unsupported_medium(medium: str, param: str) -> ApiError:
    """The refusal of what no tower reads."""
    return ApiError("unsupported_modality", f"The models here read texts and images; none reads {medium}.", param)


def parse_any_image(content: object, param: str, settings: Settings) -> Item:
    """A picture from what should be a string."""
    try:
        if not isinstance(content, str):
            raise ApiError("invalid_request", "This must be a string.", param)
        return parse_image(content, param, settings)
    except ApiError as error:
        return BadItem(without_frames(error))


def _item(value: object, param: str, settings: Settings, modality: str | None = None) -> Item:
    if isinstance(value, str) and (modality == "image" or _is_image_uri(value)):
        return parse_any_image(value, param, settings)
    if _are_token_ids(value):
        return BadItem(ApiError("invalid_request", _REFUSED_IDS, param))
    if not isinstance(value, dict):
        return parse_item(value, param, settings)
    if medium := next((name for name in _UNSUPPORTED_MEDIA if value.get(name) is not None), None):
        return BadItem(unsupported_medium(medium, f"{param}.{medium}"))
    contents = {name: value[name] for name in ("text", *_IMAGE_FIELDS) if value.get(name) is not None}
    if len(contents) != 1:
        return BadItem(ApiError("invalid_request", 'An item has exactly one of "text" and "image".', param))
    [(name, content)] = contents.items()
    if name in _IMAGE_FIELDS:
        return parse_any_image(content, f"{param}.{name}", settings)
    return parse_item(contents, param, settings)


def _is_image_uri(text: str) -> bool:
    return text[:11].lower() == "data:image/"


def _is_token_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_token_ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and _is_token_id(value[0])


def parse_any_list(value: object, info: ValidationInfo[Settings]) -> list[Item]:
    """One item or a list of them; with `"modality": "image"`, its strings are images."""
    items = _parse_items(value, info)
    return [_with_side(item, info) for item in items] if _is_cut_at_start(info) else items


def _is_cut_at_start(info: ValidationInfo[Settings]) -> bool:
    return info.data.get("truncate") == "start" or info.data.get("truncation_direction") == "left"


def _with_side(item: Item, info: ValidationInfo[Settings]) -> Item:
    return replace(item, cut="start") if isinstance(item, TextItem) and _is_cut_at_start(info) else item


def _parse_items(value: object, info: ValidationInfo[Settings]) -> list[Item]:
    field, modality = str(info.field_name), info.data.get("modality")
    if modality == "audio":
        raise unsupported_medium("audio", "modality")
    if not isinstance(value, list):
        return [_item(value, field, info.context, modality)]
    if not value:
        raise ApiError("invalid_request", "This list is empty; send at least one item.", field)
    if _are_token_ids(value):
        raise ApiError("invalid_request", _REFUSED_IDS, field)
    check_count(len(value), info.context.compatible_items(), "items", field)
    return [_item(each, f"{field}.{index}", info.context, modality) for index, each in enumerate(value)]


def _parse_texts(value: object, info: ValidationInfo[Settings]) -> list[Item]:
    field = str(info.field_name)
    return [_text(each, f"{field}.{index}", info.context) for index, each in enumerate(_check_list(value, info))]


def _text(value: object, param: str, settings: Settings) -> Item:
    if not isinstance(value, str):
        return BadItem(ApiError("invalid_request", "This must be a string.", param))
    return parse_item(value, param, settings)


def _parse_images(value: object, info: ValidationInfo[Settings]) -> list[Item]:
    field = str(info.field_name)
    return [
        parse_any_image(each, f"{field}.{index}", info.context) for index, each in enumerate(_check_list(value, info))
    ]


def _check_list(value: object, info: ValidationInfo[Settings]) -> list[Any]:
    """A list within the limit, which may be empty, or null for such a one."""
    if value is None:
        return []
    field = str(info.field_name)
    if not isinstance(value, list):
        raise ApiError("invalid_request", "This must be a list.", field)
    check_count(len(value), info.context.compatible_items(), "items", field)
    return value


def _parse_one(value: object, info: ValidationInfo[Settings]) -> Item:
    return _with_side(_item(value, str(info.field_name), info.context), info)


def _parse_image(value: object, info: ValidationInfo[Settings]) -> Item:
    return parse_any_image(value, str(info.field_name), info.context)


_IMAGE_SCHEMA: dict[str, Any] = {
    "type": "string",
    "minLength": 1,
    "description": "the encoded file as base64 or as a data: URI; or, where the operator allowed it, an https:// URL",
}
_ITEM_SCHEMA: dict[str, Any] = {
    "title": "Item of other services",
    "description": "Fields beside these are ignored.",
    "anyOf": [
        {"type": "string", "description": "a text; what begins with data:image/ is a picture", "minLength": 1},
        {"type": "object", "properties": {"text": {"type": "string", "minLength": 1}}, "required": ["text"]},
        {"type": "object", "properties": {"image": _IMAGE_SCHEMA}, "required": ["image"]},
    ],
}
AnyItem = Annotated[Item, PlainValidator(_parse_one), WithJsonSchema(_ITEM_SCHEMA)]
AnyItems = Annotated[
    list[Item],
    PlainValidator(parse_any_list),
    WithJsonSchema({"anyOf": [_ITEM_SCHEMA, {"type": "array", "items": _ITEM_SCHEMA, "minItems": 1}]}),
]
TextList = Annotated[
    list[Item],
    PlainValidator(_parse_texts),
    WithJsonSchema({"type": "array", "items": {"type": "string", "minLength": 1}}),
]
ImageList = Annotated[
    list[Item],
    PlainValidator(_parse_images),
    WithJsonSchema({"type": "array", "items": _IMAGE_SCHEMA}),
]
Image = Annotated[Item, PlainValidator(_parse_image), WithJsonSchema(_IMAGE_SCHEMA)]
