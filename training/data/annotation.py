"""What is said of a picture: the names under which it is known everywhere, and the one rule that reads it.

A record is an object of names and values: KEY.json of a shard, NAME.json in a folder, a row of a table. Beside a
record there may be KEY.txt with a caption a line, and KEY.cls with a label.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from training.data.entry import Told
from training.data.files import CAPTION_SUFFIXES, LABEL_SUFFIXES, RECORD_SUFFIX
from training.data.text_files import AnnotationError, decode_text, json_object, kind_of, undamaged
from training.data.troubles import Troubles

# As img2dataset, open_clip, webdataset, Hugging Face's data sets, Flickr30k and people call them; compared by `plain`.
# All captions of a record are used, in this order; of its labels the first that holds something.
CAPTION_NAMES = (
    "title", "caption", "captions", "text", "txt", "sentences", "sentence", "alt", "alt_text", "comment", "raw",
)  # fmt: skip
LABEL_NAMES = ("label", "class", "class_name", "label_name", "category")
PICTURE_NAMES = (
    "filepath", "file_name", "filename", "image", "image_path", "path", "jpg", "png", "jpeg", "webp", "picture",
    "image_name", "image_id", "image_file", "img", "img_path", "file",
)  # fmt: skip
OTHER_NAMES = ("tags", "coarse", "description")


def plain(name: str) -> str:
    """A name as it is compared: `File Name` and `file_name` are one."""
    return re.sub(r"[\s-]+", "_", name.strip()).casefold()


def annotation_of(record: Mapping[str, Any]) -> tuple[Told, str]:
    """What a record says, and which of its names said it. Raises AnnotationError: it says nothing, or not in texts."""
    by_name = {plain(name): name for name in reversed(list(record))}  # of several spellings the first
    captions, used, problems = _captions_of(record, by_name)
    fields: dict[str, Any] = {name: record[by_name[name]] for name in OTHER_NAMES if name in by_name}
    if isinstance(fields.get("tags"), str):
        fields["tags"] = fields["tags"].split(",")
    label = next((by_name[name] for name in LABEL_NAMES if name in by_name and _said(record[by_name[name]])), None)
    known = (*CAPTION_NAMES, *LABEL_NAMES, *OTHER_NAMES)
    rest = {name: value for name, value in record.items() if plain(name) not in known}
    told = _validated({**rest, **fields, "captions": captions, "label": None if label is None else record[label]})
    if not told.says_something() and told.description:
        told = told.model_copy(update={"captions": [told.description], "description": None})
        used = [by_name["description"]]
    if not told.says_something() and problems:
        raise problems[0]
    for text in (*told.captions, *told.tags, told.label, told.coarse, told.description):
        undamaged(text or "")
    parts = [f"captions from {' and '.join(f'`{name}`' for name in used)}"] if used else []
    parts += [f"labels from `{label}`"] if label else []
    return told, ", ".join(parts)


def _captions_of(
    record: Mapping[str, Any], by_name: Mapping[str, str]
) -> tuple[list[str], list[str], list[AnnotationError]]:
    """The distinct captions of a record, the names that hold some, and what is wrong with others."""
    captions: list[str] = []
    used: list[str] = []
    problems: list[AnnotationError] = []
    for name in CAPTION_NAMES:
        if name in by_name:
            try:
                found = texts_of(by_name[name], record[by_name[name]])
            except AnnotationError as error:
                problems.append(error)
                continue
            captions += found
            used += [by_name[name]] * bool(found)
    if problems and "captions" in by_name and not captions:
        raise problems[0]
    return list(dict.fromkeys(captions)), used, problems


def _said(value: Any) -> bool:
    return value is not None and (not isinstance(value, str) or bool(value.strip()))


def _validated(fields: dict[str, Any]) -> Told:
    for name in ("label", "coarse", "description"):  # blank is as good as not there
        if not _said(fields.get(name)):
            fields.pop(name, None)
    try:
        return Told.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "record"
        message = f"`{name}` is {kind_of(fields.get(name))}: {first['msg'].lower()}"
        raise AnnotationError("wrong type", message) from error


def texts_of(name: str, value: Any) -> list[str]:
    """One text or a list of them, without blanks; a list may be JSON in a text. Raises AnnotationError."""
    if value is None:
        return []
    if isinstance(value, str):
        value = _listed(name, value)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        inner = next((text for text in value if not isinstance(text, str)), None) if isinstance(value, list) else value
        raise AnnotationError("wrong type", f"`{name}` holds {kind_of(inner)}; a text or a list of texts is expected")
    return [text.strip() for text in value if text.strip()]


def _listed(name: str, text: str) -> list[Any]:
    stripped = text.strip()
    if stripped.startswith('["') and stripped.endswith('"]'):  # as tables hold lists
        try:
            parsed = json.loads(stripped)
        except (ValueError, RecursionError):
            return [text]
        return parsed if isinstance(parsed, list) else [text]
    if stripped.startswith("['") and stripped.endswith("']"):
        raise AnnotationError("wrong type", f'`{name}` is a list as Python prints it; write JSON, ["...", "..."]')
    return [text]


class Annotator:
    """Reads the files that say something of the pictures of one source, and counts what cannot be used."""

    def __init__(self, skipped: Troubles, encoding: str | None = None, class_names: Sequence[str] = ()) -> None:
        """`class_names` are those that the numbers in KEY.cls mean."""
        self._skipped, self._encoding, self._class_names = skipped, encoding, class_names

    def annotation(self, key: str, files: Mapping[str, bytes]) -> Told | None:
        """What the files of a sample, by suffix, say of it; None, and counted, where that is nothing."""
        try:
            told = self._record(key, files)
            captions, label = told.captions, told.label
            written = [suffix for suffix in CAPTION_SUFFIXES if suffix in files]
            if captions:
                self._not_used(key, written, "has captions of its own")
            else:
                captions = self._captions(files, written)
            if label is None:
                label = self._label(files)
            told = told.model_copy(update={"captions": captions, "label": label})
            if not told.says_something():
                raise AnnotationError("no readable text", self._found(files))
        except AnnotationError as error:
            self._skipped.add(key, error.reason, error)
            return None
        return told

    def _record(self, key: str, files: Mapping[str, bytes]) -> Told:
        if RECORD_SUFFIX not in files:
            return Told()
        try:
            told, used = annotation_of(json_object(files[RECORD_SUFFIX], self._encoding))
        except AnnotationError as error:
            if not any(files.get(suffix, b"").strip() for suffix in (*CAPTION_SUFFIXES, *LABEL_SUFFIXES)):
                raise
            self._skipped.pass_over(f"{key} ({error})", f"KEY.{RECORD_SUFFIX} without use, beside another text")
            return Told()
        if used:
            self._skipped.note(f"KEY.{RECORD_SUFFIX}: {used}")
        return told

    def _captions(self, files: Mapping[str, bytes], written: Iterable[str]) -> list[str]:
        for suffix in written:
            lines = decode_text(files[suffix], self._encoding).splitlines()
            if found := [line.strip() for line in lines if line.strip()]:
                return list(dict.fromkeys(found))
        return []

    def _label(self, files: Mapping[str, bytes]) -> str | None:
        for suffix in LABEL_SUFFIXES:
            if text := decode_text(files.get(suffix, b""), self._encoding).strip():
                if text.isdecimal():
                    return self._class_name(text)
                return text
        return None

    def _class_name(self, number: str) -> str | None:
        if len(number) < 10 and int(number) < len(self._class_names):
            return self._class_names[int(number)]
        if self._class_names:
            raise AnnotationError("no readable text", f"class {number[:20]} is not in classnames.txt")
        self._skipped.note(
            "KEY.cls holds numbers of classes: put their names, a line each, into classnames.txt beside it"
        )
        return None

    def _not_used(self, key: str, suffixes: Iterable[str], why: str) -> None:
        for suffix in suffixes:
            self._skipped.pass_over(key, f"KEY.{suffix}, where KEY.{RECORD_SUFFIX} {why}")

    @staticmethod
    def _found(files: Mapping[str, bytes]) -> str:
        if not files:
            return "no text beside it"
        return f"nothing is said in {', '.join(f'.{suffix}' for suffix in sorted(files))}"
