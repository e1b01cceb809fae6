"""One split of a data set, its pictures not yet read."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from training.data.folders import PICTURE_FILES
from training.data.shards import ShardError, grouped
from training.evaluation.embedding import Picture


class DataError(ValueError):
    """A data set that cannot be read; the message names the file and what was expected."""


@dataclass(frozen=True)
class Split:
    """Pictures with classes, or with captions.

    `targets` [pictures] is the index of each picture's class in `classes`; where a picture may have several, `truth`
    [pictures, classes] says which instead.
    """

    pictures: Sequence[Picture]
    classes: Sequence[str] = ()
    targets: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    truth: npt.NDArray[np.bool_] | None = None
    captions: Sequence[Sequence[str]] = ()
    templates: Sequence[str] = ()  # those that came with it

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True, slots=True)
class FilePicture:
    """A file of its own."""

    file: Path

    def __call__(self) -> bytes:
        """Read it."""
        return self.file.read_bytes()

    def __str__(self) -> str:
        return str(self.file)


@dataclass(frozen=True, slots=True)
class Member:
    """A part of a tar file that is not compressed."""

    archive: Path
    offset: int
    size: int

    def __call__(self) -> bytes:
        """Read it."""
        with self.archive.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(self.size)

    def __str__(self) -> str:
        return f"{self.archive}, at byte {self.offset}"


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """A row of an array, [height, width] or [height, width, 3], uint8."""

    array: npt.NDArray[np.uint8]
    row: int

    def __call__(self) -> bytes:
        """As PNG, not compressed."""
        file = io.BytesIO()
        Image.fromarray(self.array[self.row]).save(file, "PNG", compress_level=0)
        return file.getvalue()

    def __str__(self) -> str:
        return f"row {self.row}"


def pictures_in(folder: Path) -> list[Path]:
    """The picture files of a folder and those below, by name."""
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in PICTURE_FILES and file.is_file())


def samples_in(shard: Path) -> Iterator[tuple[str, dict[str, Member]]]:
    """The samples of a WebDataset shard: key, and members by suffix. Raises DataError."""

    def where(_: tarfile.TarFile, info: tarfile.TarInfo, __: str) -> Member:
        return Member(shard, info.offset_data, info.size)

    try:
        yield from grouped(shard, where)
    except ShardError as error:
        raise DataError(str(error)) from error
