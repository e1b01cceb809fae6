"""Parses the texts of images: the names under which captions and labels are known, and the one rule that reads them.

A record is an object of names and values: KEY.json of a shard, NAME.json in a folder, a row of a table. Beside a
record there may be KEY.txt with a caption a line, and KEY.cls with a label.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from model.data.column_names import CAPTION_NAMES, LABEL_NAMES, OTHER_NAMES, SYNTHETIC_FIELD, normalized
from model.data.files import CAPTION_SUFFIXES, LABEL_SUFFIXES, RECORD_SUFFIX, SYNTHETIC_SUFFIX
from model.data.skipped_samples import SkippedSamples
from model.data.text_files import AnnotationError, check_undamaged, decode_text, json_object, json_type
from training.data.sample import Annotation

# What `prepare` writes of captions that are not all of one field, and vectors of a teacher, which are read elsewhere.
ORIGIN_NAMES = ("caption_fields", "caption_rows")
VECTOR_NAMES = ("image_emb", "text_emb")
OTHER_TEXTS = (*CAPTION_SUFFIXES, *LABEL_SUFFIXES, SYNTHETIC_SUFFIX)
MAX_NAME = 100  # characters of a field's name that are kept


def parse_annotation(record: Mapping[str, Any], caption_names: Sequence[str] = ()) -> tuple[Annotation, str]:
    """The texts of a record, and a line on which of its fields they are from.

    `caption_names` are fields that hold captions beside those of CAPTION_NAMES. Raises AnnotationError where there are
    no texts, or a field has the wrong type.
    """
    by_name = {normalized(name): name for name in reversed(list(record))}  # of several spellings the first
    names = tuple(dict.fromkeys((*CAPTION_NAMES, *map(normalized, caption_names))))
    captions, rows, used, problems = _parse_captions(record, by_name, names)
    fields: dict[str, Any] = {name: record[by_name[name]] for name in OTHER_NAMES if name in by_name}
    if isinstance(fields.get("tags"), str):
        fields["tags"] = fields["tags"].split(",")
    label = next((by_name[name] for name in LABEL_NAMES if name in by_name and _has_value(record[by_name[name]])), None)
    known = (*names, *LABEL_NAMES, *OTHER_NAMES, *ORIGIN_NAMES, *VECTOR_NAMES)
    rest = {name: value for name, value in record.items() if normalized(name) not in known}
    fields["label"] = None if label is None else record[label]
    if not set(captions.values()) <= {"captions"}:
        fields["caption_fields"] = list(captions.values())
    if found_rows := rows if "text_emb" in record else record.get("caption_rows"):
        fields["caption_rows"] = found_rows
    annotation = _validate(rest | fields | {"captions": list(captions)})
    if not annotation.has_text() and annotation.description:
        moved = {"captions": [annotation.description], "caption_fields": ["description"], "description": None}
        annotation = annotation.model_copy(update=moved)
        used = [by_name["description"]]
    if not annotation.has_text() and problems:
        raise problems[0]
    for text in (*annotation.captions, *annotation.tags, annotation.label, annotation.coarse, annotation.description):
        check_undamaged(text or "")
    parts = [f"captions from {' and '.join(f'`{name}`' for name in used)}"] if used else []
    parts += [f"labels from `{label}`"] if label else []
    return annotation, ", ".join(parts)


def _parse_captions(
    record: Mapping[str, Any], by_name: Mapping[str, str], names: Sequence[str]
) -> tuple[dict[str, str], list[int], list[str], list[AnnotationError]]:
    """The distinct captions of a record with the field of each, their places among all that there are with repetitions
    and blanks, the names of fields that hold some, and what is wrong with others."""
    captions: dict[str, str] = {}
    places: dict[str, int] = {}
    total = 0
    used: list[str] = []
    problems: list[AnnotationError] = []
    for name in names:
        if name in by_name:
            try:
                listed = _list_texts(by_name[name], record[by_name[name]])
                found = [text.strip() for text in listed if text.strip()]
                fields = _parse_fields(record, name, len(found))
            except AnnotationError as error:
                problems.append(error)
                continue
            for text, field in zip(found, fields, strict=True):
                captions.setdefault(text, field)
            for place, text in enumerate(listed, total):
                places.setdefault(text.strip(), place)
            total += len(listed)
            used += [by_name[name]] * bool(found)
    if problems and "captions" in by_name and not captions:
        raise problems[0]
    return captions, [places[text] for text in captions], used, problems


def _parse_fields(record: Mapping[str, Any], name: str, count: int) -> list[str]:
    """The field that each of the captions in field `name` is from, as `prepare` wrote it of `captions`."""
    given = record.get("caption_fields") if name == "captions" else None
    if given is None:
        return [name] * count
    fields = parse_texts("caption_fields", given)
    if len(fields) != count:
        raise AnnotationError("wrong type", f"`caption_fields` names {len(fields)} fields of {count} captions")
    return [normalized(field)[:MAX_NAME] for field in fields]


def _has_value(value: Any) -> bool:
    return value is not None and (not isinstance(value, str) or bool(value.strip()))


def _validate(fields: dict[str, Any]) -> Annotation:
    for name in ("label", "coarse", "description"):  # blank is as good as not there
        if not _has_value(fields.get(name)):
            fields.pop(name, None)
    try:
        return Annotation.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not first["loc"]:
            raise AnnotationError("wrong type", str(first["msg"]).removeprefix("Value error, ")) from error
        name = str(first["loc"][0])
        message = f"`{name}` is {json_type(fields.get(name))}: {first['msg'].lower()}"
        raise AnnotationError("wrong type", message) from error


def parse_texts(name: str, value: Any) -> list[str]:
    """One text or a list of them, without blanks; a list may be JSON in a text. Raises AnnotationError."""
    return [text.strip() for text in _list_texts(name, value) if text.strip()]


def _list_texts(name: str, value: Any) -> list[str]:
    """The texts as they stand, blanks among them."""
    if value is None:
        return []
    if isinstance(value, str):
        value = _parse_list(name, value)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        inner = next((text for text in value if not isinstance(text, str)), None) if isinstance(value, list) else value
        raise AnnotationError("wrong type", f"`{name}` holds {json_type(inner)}; a text or a list of texts is expected")
    return value


def _parse_list(name: str, text: str) -> list[Any]:
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


class AnnotationReader:
    """Reads the text files beside the images of one source, and counts what cannot be used."""

    def __init__(
        self,
        skipped: SkippedSamples,
        encoding: str | None = None,
        class_names: Sequence[str] = (),
        caption_names: Sequence[str] = (),
    ) -> None:
        """`class_names` are those that the numbers in KEY.cls mean; `caption_names` as of `parse_annotation`."""
        self._skipped, self._encoding = skipped, encoding
        self._class_names, self._caption_names = class_names, caption_names

    def read(self, key: str, files: Mapping[str, bytes], vectors: bool = False) -> Annotation | None:
        """The annotation in the text files of a sample, by suffix; None, and counted as skipped, if there is none.

        `vectors`: a row of those that are stored beside them belongs to each caption, those of KEY.syn.json last.
        """
        try:
            annotation = self._read_record(key, files)
            written = [suffix for suffix in CAPTION_SUFFIXES if suffix in files]
            if annotation.captions:
                for suffix in written:
                    self._skipped.pass_over(key, f"KEY.{suffix}, where KEY.{RECORD_SUFFIX} has captions of its own")
            else:
                annotation = annotation.model_copy(update=self._read_captions(files, written))
            if annotation.label is None:
                annotation = annotation.model_copy(update={"label": self._read_label(files)})
            synthetic = self._read_synthetic(key, files)
            if synthetic or (vectors and not annotation.caption_rows):
                annotation = _with_synthetic(annotation, synthetic, vectors)
            if not annotation.has_text():
                raise AnnotationError("no readable text", _found(files))
        except AnnotationError as error:
            self._skipped.add(key, error.reason, error)
            return None
        return annotation

    def _read_record(self, key: str, files: Mapping[str, bytes]) -> Annotation:
        if RECORD_SUFFIX not in files:
            return Annotation()
        try:
            annotation, used = parse_annotation(json_object(files[RECORD_SUFFIX], self._encoding), self._caption_names)
        except AnnotationError as error:
            if not any(files.get(suffix, b"").strip() for suffix in OTHER_TEXTS):
                raise
            self._skipped.pass_over(f"{key} ({error})", f"KEY.{RECORD_SUFFIX} without use, beside another text")
            return Annotation()
        if used:
            self._skipped.note(f"KEY.{RECORD_SUFFIX}: {used}")
        return annotation

    def _read_captions(self, files: Mapping[str, bytes], written: Iterable[str]) -> dict[str, list[str]]:
        """Captions and their fields. Beside synthetic captions a file is one caption, as its writer meant it."""
        for suffix in written:
            lines = decode_text(files[suffix], self._encoding).splitlines()
            if found := list(dict.fromkeys(line.strip() for line in lines if line.strip())):
                found = [" ".join(found)] if SYNTHETIC_SUFFIX in files else found
                return {"captions": found, "caption_fields": [suffix] * len(found)}
        return {}

    def _read_synthetic(self, key: str, files: Mapping[str, bytes]) -> list[str]:
        """The captions of KEY.syn.json as they stand, blanks among them."""
        if SYNTHETIC_SUFFIX not in files:
            return []
        try:
            record = json_object(files[SYNTHETIC_SUFFIX], self._encoding)
            texts = _list_texts(SYNTHETIC_FIELD, record.get(SYNTHETIC_FIELD))
            for text in texts:
                check_undamaged(text)
        except AnnotationError as error:
            self._skipped.pass_over(f"{key} ({error})", f"KEY.{SYNTHETIC_SUFFIX} that cannot be read")
            return []
        self._skipped.note(f"KEY.{SYNTHETIC_SUFFIX}: captions from `{SYNTHETIC_FIELD}`")
        return texts

    def _read_label(self, files: Mapping[str, bytes]) -> str | None:
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


def _with_synthetic(annotation: Annotation, synthetic: Sequence[str], vectors: bool) -> Annotation:
    """The annotation with further captions and, where there are `vectors`, the row of each caption among them."""
    captions = annotation.captions
    fields = dict(zip(captions, annotation.caption_fields or ["captions"] * len(captions), strict=True))
    rows: dict[str, int] = {}
    for row, text in enumerate((*captions, *(text.strip() for text in synthetic))):
        rows.setdefault(text, row)
        if text:
            fields.setdefault(text, SYNTHETIC_FIELD)
    update: dict[str, Any] = {"captions": list(fields), "caption_fields": list(fields.values())}
    if vectors:
        update["caption_rows"] = [rows[text] for text in fields]
    return annotation.model_copy(update=update)


def _found(files: Mapping[str, bytes]) -> str:
    if not files:
        return "no text beside it"
    return f"nothing is said in {', '.join(f'.{suffix}' for suffix in sorted(files))}"


def note_labels(labels: Iterable[str], skipped: SkippedSamples) -> None:
    """Note labels of a data set that may not be meant: those that only look different, and numbers."""
    alike: dict[str, str] = {}
    for label in labels:
        if (first := alike.setdefault(normalized(label).replace("_", ""), label)) != label:
            skipped.note(f"labels that differ only in case or spaces are different labels: {first!r} and {label!r}")
    if alike and all(label.isdecimal() for label in alike):
        skipped.note(
            f"all labels are numbers, such as {next(iter(alike))!r}, and are read as words: where they stand for "
            "classes, put the names of these in their place"
        )
