"""What stands in a cell of a table: a text, the bytes of a picture, the path of one, or its URL."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from model.data.files import stat_or_none
from model.data.text_files import AnnotationError, check_undamaged, decode_text, json_type
from model.files import read_regular_file
from service.bulk.sources.part import SourceOptions, utf8_name

Payload = tuple[bytes | str | None, str | None]  # and why there is none
MAX_TEXT = 1 << 20  # characters
OF_THE_MACHINE = (
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
)  # fmt: skip
UNREADABLE = "the file cannot be read: "
URL_SCHEMES = ("http://", "https://")


def is_url(cell: object) -> bool:
    """Whether it is one that could be fetched, or looks like it."""
    return isinstance(cell, str) and cell.lower().startswith(URL_SCHEMES)


def text_of(cell: Any) -> Payload:
    """A text without the blanks around it."""
    try:
        if isinstance(cell, bytes):
            cell = decode_text(cell)
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            return None, "the text is empty"
        if not isinstance(cell, str):
            return None, f"it is {json_type(cell)}, not a text"
        if len(cell) > MAX_TEXT:
            return None, f"the text has more than {MAX_TEXT:,} characters"
        return undamaged(cell).strip(), None
    except AnnotationError as error:
        return None, f"{error.reason}: {error}"


def undamaged(text: str) -> str:
    """The text. Raises AnnotationError where its bytes were no text, or characters were lost before."""
    try:
        return decode_text(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:  # half a character, as JSON can spell it
        return check_undamaged(text)


def picture_of(cell: Any, folder: Path, options: SourceOptions) -> tuple[Payload, str | None]:
    """The payload of a cell that holds bytes or a path, relative to `folder`; and the path.

    `folder` is that of the table; paths that leave it, or `options.root`, are refused.
    """
    if isinstance(cell, dict):  # as `datasets` stores a picture
        cell = cell.get("bytes") or cell.get("path")
    if cell is None or cell in ("", b""):
        return (None, "the cell is empty"), None
    if isinstance(cell, bytes):
        return _bounded(cell, options), None
    if not isinstance(cell, str):
        return (None, f"it is {json_type(cell)}, neither a picture nor a path"), None
    root = options.root or folder
    file = resolve(cell, root)
    if file is None:
        hint = "say the folder that all are below by --root" if options.root is None else f"--root is {options.root}"
        return (None, f"the path {utf8_name(cell)[:200]!r} leads out of {utf8_name(str(root))}: {hint}"), None
    return read_picture(file, root, options), utf8_name(str(file))


def resolve(path: str, root: Path) -> Path | None:
    """The file that a path names, relative to `root` unless it is absolute; None outside of `root`."""
    base = normal(root)
    found = normal(base / path)
    if "\\" in path and stat_or_none(found) is None:  # as Windows writes them
        found = normal(base / path.replace("\\", "/"))
    return found if found.is_relative_to(base) else None


def normal(path: Path) -> Path:
    """The path from the root, without `..`; links stay."""
    return Path(os.path.normpath(path.absolute()))


def read_picture(file: Path, folder: Path, options: SourceOptions) -> Payload:
    """The whole of a file below `folder`. Raises OSError as `why_unreadable` does."""
    try:
        content, _ = read_regular_file(file, options.max_body_bytes)
    except (OSError, ValueError) as error:
        return None, why_unreadable(error, folder)
    return _bounded(content, options)


def why_unreadable(error: OSError | ValueError, folder: Path) -> str:
    """What is wrong with a file below `folder`, as the error of its item.

    Raises OSError where it is not the file: a disk that is not mounted, or a server or descriptors that are missing,
    would make errors for good of all items that follow.
    """
    if not isinstance(error, OSError):  # a zero in its name
        return f"its name is none of a file: {error}"
    if error.errno in OF_THE_MACHINE:
        raise error
    if error.errno in (errno.ENOENT, errno.ENOTDIR) and not _holds_something(folder):
        raise OSError(f"{folder}, which files are read from, is gone or empty: is its disk mounted? Then go on")
    return f"{UNREADABLE}{error.strerror or error}"


def _holds_something(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


def _bounded(content: bytes, options: SourceOptions) -> Payload:
    if not content:
        return None, "the file is empty"
    if len(content) > options.max_body_bytes:
        return None, f"it has more than {options.max_body_bytes:,} bytes"
    return content, None
