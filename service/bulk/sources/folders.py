"""Folders of pictures, or of texts, a file each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from model.data.files import IMAGE_SUFFIXES, MAX_TEXT_BYTES, suffix_of
from model.data.skipped_samples import SkippedSamples
from model.data.text_files import AnnotationError, decode_text
from model.data.walk import regular_files
from model.files import read_regular_file
from service.bulk.sources.part import Item, Kind, Part, SourceOptions, printable

TEXT_SUFFIXES = ("txt",)


def plan_folder(folder: Path, kind: Kind, options: SourceOptions, skipped: SkippedSamples) -> Iterator[Part]:
    """Parts of the files whose suffix is one of the kind; of others they are counted."""
    suffixes = IMAGE_SUFFIXES if kind == "image" else TEXT_SUFFIXES
    found = _names(folder, suffixes, skipped)
    while names := tuple(islice(found, options.part_rows)):
        yield Part("folder", kind, str(folder), len(names), names=names)


def _names(folder: Path, suffixes: tuple[str, ...], skipped: SkippedSamples) -> Iterator[str]:
    for file in regular_files(folder, skipped):
        suffix = suffix_of(file.name)
        if suffix in suffixes:
            yield os.path.relpath(file, folder)
        else:
            skipped.pass_over(str(file), f"another suffix, .{suffix[:20]}" if suffix else "without a suffix")


def read_folder(part: Part, options: SourceOptions) -> Iterator[Item]:
    """The files, in order. What is not there any more, or cannot be read, is an item with the reason."""
    for name in part.names:
        file = Path(part.path, name)
        payload, error = read_file(file, part.kind, options)
        yield Item(printable(name), printable(str(file)), payload, error)


def read_file(file: Path, kind: Kind, options: SourceOptions) -> tuple[bytes | str | None, str | None]:
    """The payload of a whole file, or why there is none."""
    limit = options.max_body_bytes if kind == "image" else MAX_TEXT_BYTES
    try:
        content, _ = read_regular_file(file, limit)
        if not content:
            return None, "the file is empty"
        if len(content) > limit:
            return None, f"the file has more than {limit:,} bytes"
        return (content if kind == "image" else decode_text(content, options.encoding).strip()), None
    except AnnotationError as error:
        return None, f"{error.reason}: {error}"
    except OSError as error:
        return None, f"the file cannot be read: {error.strerror or error}"
