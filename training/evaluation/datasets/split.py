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

from model.data.files import IMAGE_SUFFIXES, MAX_IMAGE_BYTES, read_bounded, suffix_of
from model.data.skipped_samples import SkippedSamples
from model.data.tar_members import ShardError, group_by_key
from model.data.walk import regular_files
from model.embedder import ReadBytes


class DataError(ValueError):
    """A data set that cannot be read; the message names the file and what was expected."""


@dataclass(frozen=True)
class Split:
    """Images with classes, or with captions.

    `targets` [images] is the index of each image's class in `classes`; where an image may have several, `truth`
    [images, classes] says which instead.
    """

    images: Sequence[ReadBytes]
    classes: Sequence[str] = ()
    targets: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    truth: npt.NDArray[np.bool_] | None = None
    captions: Sequence[Sequence[str]] = ()
    templates: Sequence[str] = ()  # those that came with it
    skipped: SkippedSamples = field(default_factory=SkippedSamples)  # what was left out of it

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A picture in a file of its own."""

    file: Path

    def __call__(self) -> bytes:
        """Read it."""
        return read_bounded(self.file, MAX_IMAGE_BYTES)

    def __str__(self) -> str:
        return str(self.file)


@dataclass(frozen=True, slots=True)
class TarMember:
    """A member of an uncompressed tar file."""

    archive: Path
    offset: int
    size: int

    def __call__(self) -> bytes:
        """Read it."""
        if self.size > MAX_IMAGE_BYTES:
            raise DataError(f"{self} holds {self.size:,} bytes for one picture or text")
        with self.archive.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(self.size)

    def __str__(self) -> str:
        return f"{self.archive}, at byte {self.offset}"


@dataclass(frozen=True, slots=True, eq=False)
class ArrayImage:
    """One image of an array [images, height, width] or [images, height, width, 3], uint8."""

    array: npt.NDArray[np.uint8]
    row: int

    def __call__(self) -> bytes:
        """Encode it as PNG, not compressed."""
        file = io.BytesIO()
        Image.fromarray(self.array[self.row]).save(file, "PNG", compress_level=0)
        return file.getvalue()

    def __str__(self) -> str:
        return f"row {self.row}"


def image_files(folder: Path, skipped: SkippedSamples) -> list[Path]:
    """The picture files of a folder and those below, by name; empty ones are counted, as is what is no picture."""
    found = []
    for file in regular_files(folder, skipped):
        if suffix_of(file.name) not in IMAGE_SUFFIXES:
            skipped.pass_over(str(file), "no picture")
        elif not file.stat().st_size:
            skipped.add(str(file), "empty picture", "it has no bytes")
        else:
            found.append(file)
    return sorted(found)


def read_members(shard: Path, skipped: SkippedSamples) -> Iterator[tuple[str, dict[str, TarMember]]]:
    """The samples of a WebDataset shard: key, and members by suffix. Raises DataError."""

    def where(_: Path, info: tarfile.TarInfo, __: str) -> TarMember:
        return TarMember(shard, info.offset_data, info.size)

    try:
        yield from group_by_key(shard, where, skipped)
    except ShardError as error:
        raise DataError(str(error)) from error
