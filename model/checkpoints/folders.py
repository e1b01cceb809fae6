"""What the formats that are folders share: their JSON files, and writing a folder whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from model.checkpoints.checkpoint import CheckpointError

FORMAT = {"format": "pt"}  # transformers reads no safetensors that do not say what they hold
MAX_JSON_BYTES = 64 * 1024**2  # a tokenizer.json of a million tokens has less


def read_text(file: Path) -> str:
    """The text of a small file. Raises CheckpointError where it cannot be read, is huge or is not UTF-8."""
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_JSON_BYTES + 1)
        if len(content) > MAX_JSON_BYTES:
            raise CheckpointError(f"{file} is larger than {MAX_JSON_BYTES >> 20} MiB: it is not what its name says")
        return content.decode("utf-8")
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error


def read_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises CheckpointError where there is none."""
    try:
        content = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds a {type(content).__name__}, not an object")
    return content


def write_object(file: Path, content: dict[str, Any]) -> None:
    """Write a JSON file as people read it."""
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


@contextmanager
def new_folder(to: Path) -> Iterator[Path]:
    """A draft to write into, which becomes `to` when the block ends well and vanishes when it does not.

    Raises CheckpointError where `to` has content already, or cannot be written.
    """
    to = to.resolve()  # `.` has no name, and a link cannot be replaced by a folder
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise CheckpointError(f"{to} is not an empty folder: name another one, or remove it first")
    draft = to.with_name(f"{to.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    new = [folder for folder in to.parents if not folder.exists()]
    try:
        draft.mkdir(parents=True)
        yield draft
        if to.exists():
            to.rmdir()
        draft.rename(to)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        with suppress(OSError):  # another may have written there since
            for folder in new:
                folder.rmdir()
        if isinstance(error, OSError):
            raise CheckpointError(f"{to} cannot be written: {error}") from error
        raise


def model_name(folder: Path) -> str:
    """The name of the model in a folder: the folder's, or the repository's where it is in the cache of the hub."""
    place = folder.resolve()
    cached = place.parent.name == "snapshots"
    name = place.parents[1].name.rpartition("--")[2] if cached else place.name
    return re.sub(r"[^A-Za-z0-9@._-]+", "-", name).strip("@._-")[:100] or "clip"
