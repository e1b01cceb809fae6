"""What checkpoint formats that are folders share: JSON files, and new folders, written whole or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.checkpoints.checkpoint import CheckpointError
from model.files import WriteError, replace_folder
from model.hub.folders import DOWNLOADS

FORMAT = {"format": "pt"}  # transformers reads no safetensors that do not say what they hold
MAX_JSON_BYTES = 64 * 1024**2  # a tokenizer.json of a million tokens has less


def read_text(file: Path) -> str:
    """The text of a small file. Raises CheckpointError where it cannot be read, is huge or is not UTF-8."""
    try:
        if not file.is_file() and file.exists():  # a pipe would be waited for
            raise CheckpointError(f"{file} is no file")
        with file.open("rb") as stream:
            content = stream.read(MAX_JSON_BYTES + 1)
        if len(content) > MAX_JSON_BYTES:
            raise CheckpointError(f"{file} is larger than {MAX_JSON_BYTES >> 20} MiB: it is not what its name says")
        return content.decode("utf-8")
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error


def read_json(file: Path) -> Any:
    """The content of a JSON file. Raises CheckpointError where it is none."""
    try:
        return json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{file} is not JSON: {error}") from error


def read_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises CheckpointError where there is none."""
    content = read_json(file)
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds a {type(content).__name__}, not an object")
    return content


def write_object(file: Path, content: dict[str, Any]) -> None:
    """Write an indented JSON file."""
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


@contextmanager
def new_folder(to: Path) -> Iterator[Path]:
    """A draft to write into, which becomes `to` when the block ends well and vanishes when it does not.

    Raises CheckpointError where `to` has content already, or cannot be written.
    """
    to = to.resolve()  # `.` has no name, and a link cannot be replaced by a folder
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise CheckpointError(f"{to} is not an empty folder: name another one, or remove it first")
    try:
        with replace_folder(to) as draft:
            yield draft
            if to.exists():
                to.rmdir()  # which refuses what another has written there since
    except WriteError as error:
        raise CheckpointError(str(error)) from error


def model_name(folder: Path) -> str:
    """The name of the model in a folder: the folder's, or the repository's where it was downloaded from the hub."""
    place = folder.resolve()
    if place.parent.name == "snapshots":  # the cache of the hub's own client
        name = place.parents[1].name.rpartition("--")[2]
    elif place.parent.parent.name == DOWNLOADS:  # ours: the name, and below it the commit
        name = place.parent.name
    else:
        name = place.name
    return re.sub(r"[^A-Za-z0-9@._-]+", "-", name).strip("@._-")[:100] or "clip"
