"""Items: what a client may put into `inputs`, `queries` and `candidates`.

They are read one by one, so that `"on_error": "item"` can give each bad one its own error in its own place.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pybase64
from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from model.tokenizers.clip import Side
from service.errors import LONE_SURROGATE, ApiError, without_frames
from service.settings import Settings

_URL = re.compile(r"[a-z][a-z0-9+.\-]*://", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")
_DATA_URI = re.compile(r"data:[^,]{0,256}?;base64,", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TextItem:
    """A text, the path of its field, and the side at which it is cut where it is too long and may be cut."""

    text: str
    param: str
    cut: Side = "end"


@dataclass(frozen=True, slots=True)
class ImageItem:
    """`data` is the encoded file, or its base64 as it came: decoding waits for a thread of the pool."""

    data: bytes | str
    param: str

    def file(self) -> bytes:
        """The encoded file. Raises `invalid_image` for what is not base64."""
        return self.data if isinstance(self.data, bytes) else _decode_base64(self.data, self.param)


@dataclass(frozen=True, slots=True)
class UrlItem:
    """Where a picture is to be fetched from; whether it may be is the fetcher's to say."""

    url: str
    param: str


@dataclass(frozen=True, slots=True)
class BadItem:
    """An item that cannot be used, and why."""

    error: ApiError


Item = TextItem | ImageItem | UrlItem | BadItem


def parse_item(value: object, param: str, settings: Settings) -> Item:
    """One item of a request, found at `param`."""
    try:
        return _parse(value, param, settings)
    except ApiError as error:
        return BadItem(without_frames(error))


def _parse(value: object, param: str, settings: Settings) -> Item:
    if isinstance(value, str):
        return TextItem(check_text(value, param), param)
    if not isinstance(value, dict):
        raise _invalid(param, 'An item is a string, {"text": "..."} or {"image": "..."}.')
    if unknown := next((name for name in value if name not in ("text", "image")), None):
        raise _invalid(f"{param}.{unknown[:64]}", 'An item has no such field, only "text" or "image".')
    if len(value) != 1:
        raise _invalid(param, 'An item has exactly one of "text" and "image".')
    [(kind, content)] = value.items()
    path = f"{param}.{kind}"
    if not isinstance(content, str):
        raise _invalid(path, "This must be a string.")
    return TextItem(check_text(content, path), path) if kind == "text" else parse_image(content, path, settings)


def parse_image(content: str, param: str, settings: Settings) -> ImageItem | UrlItem:
    """A picture as base64, as a data: URI, or where it is to be fetched from."""
    if not content:
        raise _invalid(param, "This image is empty; send the file as base64 or as a data: URI.")
    if not _URL.match(content):
        return ImageItem(content, param)
    if not settings.url_hosts:
        raise ApiError(
            "url_not_allowed", "This server fetches no URLs; send the file itself, as base64 or as a data: URI.", param
        )
    return UrlItem(content, param)


def check_text(text: str, param: str) -> str:
    """The text. Raises `invalid_request` for an empty one, and for halves of characters."""
    if not text or text.isspace():
        raise _invalid(param, "This text is empty.")
    check_surrogates(text, param)
    return text


def check_surrogates(text: str, param: str) -> None:
    """Raise `invalid_request` for halves of characters, as JSON can spell them: they cannot be written or hashed."""
    if not text.isascii() and _SURROGATE.search(text):
        raise _invalid(param, LONE_SURROGATE)


def _invalid(param: str, message: str) -> ApiError:
    return ApiError("invalid_request", message, param)


def _decode_base64(text: str, param: str) -> bytes:
    start = 0
    if text[:5].lower() == "data:":
        header = _DATA_URI.match(text)
        if header is None:
            raise ApiError("invalid_image", "A data: URI must look like data:image/jpeg;base64,...", param)
        start = header.end()
    try:
        return _undo_base64(text[start:] if start else text)
    except ValueError:  # covers binascii.Error, and characters outside ASCII
        raise ApiError(
            "invalid_image",
            "This is not complete base64; use the standard alphabet, padded and without line breaks.",
            param,
        ) from None


def _undo_base64(text: str) -> bytes:
    try:
        return pybase64.b64decode(text, validate=True)  # thirty times faster, and outside of the interpreter's lock
    except ValueError:
        return binascii.a2b_base64(text, strict_mode=True)  # which is not as strict about padding


def _parse_items(value: object, info: ValidationInfo[Settings]) -> list[Item]:
    field = info.field_name or "inputs"
    if not isinstance(value, list):
        return [parse_item(value, field, info.context)]
    if not value:
        raise _invalid(field, "This list is empty; send at least one item.")
    check_count(len(value), info.context.max_items, "items", field)
    return [parse_item(each, f"{field}.{index}", info.context) for index, each in enumerate(value)]


def check_count(count: int, limit: int, what: str, param: str | None) -> None:
    """Raise `too_many_inputs` above `limit`."""
    if count > limit:
        raise ApiError("too_many_inputs", f"{count} {what} are over the limit of {limit}; send fewer at a time.", param)


def raise_first_bad(items: Sequence[Item]) -> None:
    """Refuse the whole request for its first bad item."""
    for item in items:
        if isinstance(item, BadItem):
            raise without_frames(item.error)


_ITEM_SCHEMA: dict[str, Any] = {
    "title": "Item",
    "anyOf": [
        {"type": "string", "description": "a text", "minLength": 1},
        {
            "type": "object",
            "properties": {"text": {"type": "string", "minLength": 1}},
            "required": ["text"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {
                "image": {
                    "type": "string",
                    "minLength": 1,
                    "description": "the encoded file (JPEG, PNG, WebP, GIF, BMP, TIFF) as base64 or as a data: "
                    "URI; or, where the operator allowed it, an https:// URL",
                }
            },
            "required": ["image"],
            "additionalProperties": False,
        },
    ],
}
Items = Annotated[
    list[Item],
    PlainValidator(_parse_items),
    WithJsonSchema({"anyOf": [_ITEM_SCHEMA, {"type": "array", "items": _ITEM_SCHEMA, "minItems": 1}]}),
]
