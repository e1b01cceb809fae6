"""A folder of pictures: captions beside them, a metadata file, or a folder for each label."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from model.suggestions import did_you_mean_path
from training.config import Columns
from training.data.entry import Entry, Place, Told
from training.data.shards import ShardError
from training.data.tables import scan_tables
from training.data.troubles import Troubles

PICTURE_FILES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm")
OPAQUE = (".jpg", ".jpeg")
TEXTS = (".json", ".txt")
METADATA = ("metadata.csv", "metadata.tsv", "metadata.jsonl", "metadata.parquet")


def scan_folder(folder: Path, troubles: Troubles) -> Iterator[Entry]:
    """All pictures of which something is said, in the order of their paths.

    By `metadata.csv`, `.tsv`, `.jsonl` or `.parquet` where there is one; else by NAME.txt (a caption a line) or
    NAME.json beside NAME.jpg; where there is no such file, the outermost folder in `folder` is the label.
    Raises ShardError if it is no folder, or nothing is said of any picture in it.
    """
    if not folder.is_dir():
        raise ShardError(f"{folder} is not a folder{did_you_mean_path(folder)}")
    files = list(_files(folder))
    tables = [file for file in files if file.name in METADATA]
    if tables:
        yield from scan_tables(tables, Columns(), troubles)
        return
    texts = {file.with_suffix(""): file for file in files if file.suffix.lower() in TEXTS}
    pictures = [file for file in files if file.suffix.lower() in PICTURE_FILES]
    captioned = any(picture.with_suffix("") in texts for picture in pictures)
    for picture in pictures:
        inside = picture.relative_to(folder)
        key = f"{folder.name}/{inside.as_posix()}"
        if captioned:
            told = _beside(texts.get(picture.with_suffix("")))
        else:
            told = Told(label=inside.parts[0].replace("_", " ")) if len(inside.parts) > 1 else None
        if told is None or not told.says_something():
            troubles.add(key, "no readable text")
        else:
            yield Entry(key, Place(picture), told, opaque=picture.suffix.lower() in OPAQUE)


def _files(folder: Path) -> Iterator[Path]:
    for where, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield from (Path(where) / name for name in sorted(names) if not name.startswith("."))


def _beside(file: Path | None) -> Told | None:
    if file is None:
        return None
    try:
        content = file.read_bytes()
        if file.suffix.lower() == ".json":
            return Told.model_validate_json(content)
    except (OSError, ValidationError):
        return None
    return Told(captions=content.decode("utf-8", errors="replace").splitlines())
