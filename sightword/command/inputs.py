"""The items that a command line names: files, folders, patterns, and texts on standard input."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightword.command.status import UsageError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
STDIN = "-"
_PATTERN = re.compile(r"[*?\[]")


class InputError(UsageError):
    """Nothing can be made of an argument; the message says what is expected."""


@dataclass(frozen=True, slots=True)
class Input:
    """A picture or a text. `key` names it in what comes out: the path as it was given, or the text."""

    key: str
    item: Path | str


def read_inputs(arguments: Sequence[str], texts: Iterable[str] = ()) -> list[Input]:
    """The pictures that the arguments name, each once, and the texts. Raises InputError."""
    found: dict[str, Input] = {}
    for argument in arguments:
        for each in _lines() if argument == STDIN else _pictures(argument):
            found.setdefault(each.key, each)
    for text in texts:
        found.setdefault(text, Input(text, text))
    if not found:
        raise InputError("There is nothing to embed: give pictures, folders, --text, or - for texts on standard input.")
    return list(found.values())


def read_query(argument: str) -> Path | str:
    """A picture, where a file is so called; else a text. Raises InputError for what looks like a file and is none."""
    path = Path(argument)
    try:
        if path.is_file():
            return path
    except (OSError, ValueError):  # a text too long for a name, or with a NUL
        return argument
    if path.suffix.lower() in SUFFIXES and " " not in argument:
        raise InputError(f"There is no file {argument}.")
    return argument


def _lines() -> Iterator[Input]:
    if sys.stdin.isatty():
        print("One text a line; Ctrl-D ends them.", file=sys.stderr)
    for line in sys.stdin.buffer:
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise InputError(f"Standard input is not UTF-8 ({error.reason}): it holds texts, one a line.") from None
        if text:
            yield Input(text, text)


def _pictures(argument: str) -> Iterator[Input]:
    path = Path(argument)
    if path.is_dir():
        files = list(_in_folder(path))
        if not files:
            raise InputError(f"There are no pictures in {argument} ({', '.join(sorted(SUFFIXES))}).")
    elif path.exists():
        files = [path]
    elif _PATTERN.search(argument):
        # Left as it is by the shell. Path.glob takes none that begins with /.
        names = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207
        files = [Path(name) for name in names if Path(name).is_file()]
        if not files:
            raise InputError(f"No file matches {argument}.")
    else:
        raise InputError(
            f"There is no file or folder {argument}. Texts are given by --text, or by - on standard input."
        )
    yield from (Input(_as_text(file), file) for file in files)


def _in_folder(folder: Path) -> Iterator[Path]:
    """Pictures by the ends of their names, in order; without what is hidden. Links to folders are not followed."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(parent, name)
            if file.suffix.lower() in SUFFIXES and not name.startswith(".") and file.is_file():
                yield file


def _as_text(path: Path) -> str:
    """For JSON and Parquet, which hold no names that are not Unicode."""
    return os.fsencode(path).decode("utf-8", "replace")
