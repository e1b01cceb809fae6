"""Which files of a folder or an archive are pictures or texts, which belong to the system, and how much is read.

Folders, shards, tables, `prepare` and `evaluate` all ask here, so that the same file is the same thing everywhere.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm")
OPAQUE_SUFFIXES = ("jpg", "jpeg")  # formats without an alpha channel
RECORD_SUFFIX = "json"
CAPTION_SUFFIXES = ("txt", "caption", "captions")  # a caption a line
LABEL_SUFFIXES = ("cls", "label")
TEXT_SUFFIXES = (RECORD_SUFFIX, *CAPTION_SUFFIXES, *LABEL_SUFFIXES)
# Of reinforced shards (DataCompDR, Vasu et al. 2024): synthetic captions, vectors of a teacher, and these as a pickle,
# which is never read.
SYNTHETIC_SUFFIX, VECTOR_SUFFIX, PICKLE_SUFFIX = "syn.json", "npz", "pth.gz"
TEXT_TABLES = ("csv", "tsv", "txt", "tab", "psv")
JSON_LINES, PARQUET = ("jsonl", "ndjson"), ("parquet",)
TABLE_SUFFIXES = (*TEXT_TABLES, *JSON_LINES, *PARQUET)

MAX_TEXT_BYTES = 16 * 2**20  # of a text or JSON file; captions of a picture take kilobytes
MAX_LIST_BYTES = 256 * 2**20  # of a JSON file of keys, synonyms or names, a few dozen bytes each
MAX_IMAGE_BYTES = 512 * 2**20  # of an encoded picture; 50 million pixels, not compressed, take 400 MB at 16 bits

# Compared in lower case. What starts with a dot is hidden: .DS_Store, ._NAME, .git, .ipynb_checkpoints.
SYSTEM_NAMES = frozenset(
    {
        "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "#recycle", "$recycle.bin",
        "system volume information", "lost+found",
    }
)  # fmt: skip


def is_system_name(name: str) -> bool:
    """Whether a file or folder is hidden or an operating system's own, whatever it is called after the dot."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def suffix_of(name: str) -> str:
    """The last suffix in lower case, without the dot."""
    return PurePosixPath(name).suffix.lower().removeprefix(".")


def stat_or_none(file: Path) -> os.stat_result | None:
    """The status of a file; None where there is none, or can be none of that name."""
    try:
        return file.stat()
    except (OSError, ValueError):
        return None


def read_bounded(file: Path, limit: int) -> bytes:
    """All of a regular file. Raises OSError naming it where it is none, or holds more than `limit` bytes."""
    check_regular(file)
    with file.open("rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise OSError(f"{file} is larger than {limit:,} bytes")
    return content


def check_regular(file: Path) -> None:
    """Raise OSError for a pipe, a device or a folder, of which the first would be waited for without an end."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise OSError(f"{file} is no regular file")
