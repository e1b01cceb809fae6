"""Which files of a folder or an archive are pictures or texts, which belong to the system, and how much is read.

Folders, shards, tables, `prepare` and `evaluate` all ask here, so that the same file is the same thing everywhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from model.data.skipped_samples import SkippedSamples

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


def regular_files(folder: Path, skipped: SkippedSamples) -> Iterator[Path]:
    """The files below `folder`, sorted within each folder, and its own before those of the folders in it.

    Links are followed, into each folder once. System files, links that lead nowhere and what is no file (a pipe, a
    device) are passed over and counted.
    """

    def unreadable(error: OSError) -> None:
        skipped.pass_over(str(error.filename), f"a folder that cannot be read ({error.strerror})")

    seen = {_identity(folder)}
    for where, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        here = Path(where)
        folders[:] = [name for name in sorted(folders) if _is_entered(here / name, seen, skipped)]
        for name in sorted(names):
            if _is_regular(here / name, skipped):
                yield here / name


def _is_entered(folder: Path, seen: set[tuple[int, int] | None], skipped: SkippedSamples) -> bool:
    if is_system_name(folder.name):
        skipped.pass_over(str(folder), "hidden or made by the system")
        return False
    identity = _identity(folder)
    if identity in seen:
        skipped.pass_over(str(folder), "a link to a folder that is read already")
        return False
    seen.add(identity)
    return True


def _identity(folder: Path) -> tuple[int, int] | None:
    state = stat_or_none(folder)
    return None if state is None else (state.st_dev, state.st_ino)


def _is_regular(file: Path, skipped: SkippedSamples) -> bool:
    if is_system_name(file.name):
        skipped.pass_over(str(file), "hidden or made by the system")
        return False
    try:
        mode = file.stat().st_mode
    except OSError as error:
        skipped.pass_over(str(file), f"cannot be looked at ({error.strerror})")
        return False
    if not stat.S_ISREG(mode):
        skipped.pass_over(str(file), "no file but a pipe, socket or device")
    return stat.S_ISREG(mode)


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
