"""Texts and JSON out of bytes: in which encoding they are, and what makes them unusable."""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

DAMAGED = re.compile("[\ud800-\udfff\ufffd]")  # what is left of bytes that are no text
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
DAMAGED_TEXT = "damaged text"  # the reason under which it is counted


class AnnotationError(ValueError):
    """A record or text that cannot be used: `reason` is one of a few, the message says more."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def detect_encoding(start: bytes, encoding: str | None) -> str:
    """The encoding of a text that starts with these bytes: by its byte order mark, or `encoding`, or UTF-8."""
    return next((found for bom, found in BOMS.items() if start.startswith(bom)), encoding or "utf-8")


def decode_text(content: bytes, encoding: str | None = None) -> str:
    """Raises AnnotationError for bytes that are no text in that encoding, and for text that was damaged before."""
    used = detect_encoding(content, encoding)
    try:
        text = content.decode(used)
    except UnicodeDecodeError as error:
        byte = content[error.start : error.start + 1].hex().upper()
        message = f"byte 0x{byte} at {error.start} is not {used}{_as_windows(content, encoding)}"
        raise AnnotationError(DAMAGED_TEXT, message) from error
    return check_undamaged(text)


def _as_windows(content: bytes, encoding: str | None) -> str:
    """The commonest other encoding of Western text, and how it would read."""
    if encoding is not None:
        return ""
    read = content[:60].decode("cp1252", errors="replace").splitlines()
    return f"; by `encoding: cp1252` it would be {read[0] if read else ''!r}"


def check_undamaged(text: str) -> str:
    """`text`. Raises AnnotationError where characters of it were lost before."""
    if DAMAGED.search(text):
        raise AnnotationError(DAMAGED_TEXT, f"characters were lost before: {text[:60]!r}")
    return text


def json_object(content: str | bytes, encoding: str | None = None) -> dict[str, Any]:
    """A JSON object. Raises AnnotationError for anything else, too deep, too long numbers, or the same name twice."""
    try:
        text = decode_text(content, encoding) if isinstance(content, bytes) else content
        parsed = json.loads(text, object_pairs_hook=_unique_names)
    except RecursionError as error:
        raise AnnotationError("broken JSON", "it is nested too deeply") from error
    except AnnotationError:
        raise
    except ValueError as error:
        raise AnnotationError("broken JSON", str(error)) from error
    if not isinstance(parsed, dict):
        raise AnnotationError("wrong type", f"JSON holds {json_type(parsed)}, not an object of names and values")
    return parsed


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def json_type(value: Any) -> str:
    """The type of a JSON value, in words."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
