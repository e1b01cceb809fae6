"""Files that were tampered with, and what is said of them."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.weights import read_file

Entries = dict[str, bytes]


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def entries(file: Path) -> Entries:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(file: Path, content: Entries, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return file


def refused(file: Path) -> str:
    """Why the file was refused."""
    with pytest.raises(CheckpointError) as caught:
        read_file(file)
    assert str(file) in str(caught.value)
    return str(caught.value)
