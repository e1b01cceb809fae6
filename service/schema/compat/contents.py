"""Inputs of several parts, as Cohere, Voyage and vLLM write them: texts and pictures that get one vector together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from service.errors import ApiError
from service.schema.compat.items import parse_any_image, unsupported_medium
from service.schema.items import BadItem, Item, check_count, parse_item
from service.settings import Settings

MEDIA = {"video_url": "video", "video_base64": "video", "input_audio": "audio", "document": "documents"}


@dataclass(frozen=True, slots=True)
class Contents:
    """The parts of all inputs, in order, and how many each input has."""

    items: list[Item]
    counts: list[int]

    def combined(self) -> Iterator[int]:
        """The inputs of more than one part."""
        return (index for index, count in enumerate(self.counts) if count > 1)


def _parse_contents(value: object, info: ValidationInfo[Settings]) -> Contents:
    field = str(info.field_name)
    if not isinstance(value, list) or not value:
        raise ApiError("invalid_request", "This is a list of at least one input.", field)
    contents = Contents([], [])
    for index, each in enumerate(value):
        parts, path = _parts(each, f"{field}.{index}")
        contents.counts.append(len(parts))
        check_count(len(contents.items) + len(parts), info.context.compatible_items(), "parts", field)
        contents.items.extend(_part(part, f"{path}.{number}", info.context) for number, part in enumerate(parts))
    return contents


def _parts(value: object, path: str) -> tuple[list[Any], str]:
    """The parts of one input: those of its `content`, or Voyage's older lists of plain strings."""
    if isinstance(value, dict):
        value, path = value.get("content"), f"{path}.content"
    if not isinstance(value, list) or not value:
        raise ApiError("invalid_request", "An input has a list of at least one part.", path)
    return value, path


def _parse_messages(value: object, info: ValidationInfo[Settings]) -> Contents | None:
    """A chat as one input: the parts of all its messages."""
    if value is None:
        return None
    field = str(info.field_name)
    if not isinstance(value, list) or not value:
        raise ApiError("invalid_request", "This is a list of at least one message.", field)
    items: list[Item] = []
    for index, message in enumerate(value):
        path = f"{field}.{index}"
        if isinstance(message, dict) and message.get("role", "user") != "user":
            raise ApiError(
                "invalid_request", "No model here reads instructions: send user's messages only.", f"{path}.role"
            )
        if isinstance(message, dict) and isinstance(message.get("content"), str):
            message = {"content": [message["content"]]}
        parts, path = _parts(message, path)
        check_count(len(items) + len(parts), info.context.compatible_items(), "parts", field)
        items.extend(_part(part, f"{path}.{number}", info.context) for number, part in enumerate(parts))
    return Contents(items, [len(items)])


def _part(value: object, path: str, settings: Settings) -> Item:
    if isinstance(value, str):
        return parse_item(value, path, settings)
    if not isinstance(value, dict):
        return _bad(path)
    kind = value.get("type")
    match kind:
        case "text" if isinstance(value.get("text"), str):
            return parse_item(value["text"], f"{path}.text", settings)
        case "image_url" | "image_base64" | "image":
            return _image(value, kind, path, settings)
        case str() if kind in MEDIA:
            return BadItem(unsupported_medium(MEDIA[kind], path))
    return _bad(path)


def _image(value: Mapping[str, Any], kind: str, path: str, settings: Settings) -> Item:
    found, path = value.get(kind), f"{path}.{kind}"
    if isinstance(found, dict):  # OpenAI's and Cohere's, with room for `detail`
        found, path = found.get("url"), f"{path}.url"
    return parse_any_image(found, path, settings)


def _bad(path: str) -> BadItem:
    message = 'A part is {"type": "text", "text": "..."} or {"type": "image_url", "image_url": {"url": "data:..."}}.'
    return BadItem(ApiError("invalid_request", message, path))


_PART_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"type": {"const": "text"}, "text": {"type": "string", "minLength": 1}},
            "required": ["type", "text"],
        },
        {
            "type": "object",
            "properties": {
                "type": {"const": "image_url"},
                "image_url": {
                    "anyOf": [
                        {"type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]},
                        {"type": "string"},
                    ]
                },
            },
            "required": ["type", "image_url"],
        },
        {
            "type": "object",
            "properties": {"type": {"const": "image_base64"}, "image_base64": {"type": "string", "minLength": 1}},
            "required": ["type", "image_base64"],
        },
    ]
}
ContentList = Annotated[
    Contents,
    PlainValidator(_parse_contents),
    WithJsonSchema(
        {
            "type": "array",
            "minItems": 1,
            "description": "of several parts, the vector is the normalised mean of theirs",
            "items": {
                "type": "object",
                "properties": {"content": {"type": "array", "items": _PART_SCHEMA, "minItems": 1}},
                "required": ["content"],
            },
        }
    ),
]
MessageList = Annotated[
    Contents | None,
    PlainValidator(_parse_messages),
    WithJsonSchema(
        {
            "type": "array",
            "minItems": 1,
            "description": "vLLM's: user's messages, whose texts and images get one vector together",
            "items": {
                "type": "object",
                "properties": {
                    "role": {"const": "user"},
                    "content": {
                        "anyOf": [
                            {"type": "string", "minLength": 1},
                            {"type": "array", "items": _PART_SCHEMA, "minItems": 1},
                        ]
                    },
                },
                "required": ["content"],
            },
        }
    ),
]
