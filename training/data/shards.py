"""WebDataset shards: tar files in which members that share a key are one sample: `KEY.jpg`, `KEY.json`."""

from __future__ import annotations

import logging
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import bracex
from pydantic import ValidationError

from model.suggestions import did_you_mean_path
from training.data.entry import Entry, Place, Told
from training.data.troubles import Troubles

log = logging.getLogger(__name__)

PICTURE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
JPEG_SUFFIXES = ("jpg", "jpeg")
TEXT_SUFFIXES = ("json", "txt")
MOST_NAMES = 1_000_000  # that one brace list may stand for

Part = TypeVar("Part")


class ShardError(ValueError):
    """Data that cannot be read; the message names the file or the pattern."""


@dataclass(slots=True)
class Sample:
    """One picture and what is said of it."""

    key: str
    picture: bytes
    label: str | None = None
    captions: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    coarse: str | None = None
    description: str | None = None


def sample_of(key: str, picture: bytes, told: Told) -> Sample:
    """With the picture's bytes read."""
    return Sample(key, picture, told.label, told.captions, told.tags, told.coarse, told.description)


def find_shards(patterns: Iterable[str], base: Path) -> list[Path]:
    """Expand brace lists, `train-{0000..0099}.tar`, and glob patterns relative to `base`.

    Raises ShardError for a pattern that matches nothing; names of a brace list that are missing are warned of.
    """
    found: list[Path] = []
    for pattern in patterns:
        matches = {name: _glob(name, base) for name in _expand(pattern)}
        missing = [name for name, files in matches.items() if not files]
        if len(missing) == len(matches):
            raise ShardError(f"no file matches {pattern!r} (looked from {base}){did_you_mean_path(pattern, base)}")
        if missing:
            log.warning("%s: %d of %d files are missing, first %s", pattern, len(missing), len(matches), missing[0])
        found.extend(file for files in matches.values() for file in files)
    return found


def _expand(pattern: str) -> list[str]:
    try:
        return bracex.expand(pattern, limit=MOST_NAMES)
    except bracex.ExpansionLimitException as error:
        raise ShardError(f"{pattern!r} stands for more than {MOST_NAMES:,} files") from error


def _glob(pattern: str, base: Path) -> list[Path]:
    root, rest = (Path("/"), pattern.lstrip("/")) if pattern.startswith("/") else (base, pattern)
    return sorted(root.glob(rest)) if rest else []


def read_shards(shards: Iterable[Path]) -> Iterator[Sample]:
    """All complete samples, in order. A sample without picture or text is skipped and counted in a warning.

    Raises ShardError for a shard that cannot be read to its end: what is measured on a part would mislead.
    """
    for shard in shards:
        incomplete = 0
        for key, members in grouped(shard, member_bytes):
            picture, told = _picture(members), _told(members)
            if picture is None or told is None:
                incomplete += 1
            else:
                yield sample_of(f"{shard.name}/{key}", members[picture], told)
        if incomplete:
            log.warning("%s: skipped %d samples without a picture or a readable text", shard, incomplete)


def scan_shard(shard: Path, troubles: Troubles) -> Iterator[Entry]:
    """All complete samples, in order, without reading their pictures; of a damaged shard those before the damage."""
    try:
        for key, members in grouped(shard, text_or_place):
            name, picture = f"{shard.name}/{key}", _picture(members)
            told = _told({suffix: part for suffix, part in members.items() if isinstance(part, bytes)})
            if picture is None:
                troubles.add(name, "no picture")
            elif told is None or not told.says_something():
                troubles.add(name, "no readable text")
            else:
                place = members[picture]
                assert isinstance(place, Place)  # as `text_or_place` makes them of pictures
                yield Entry(name, place, told, opaque=picture in JPEG_SUFFIXES)
    except ShardError as error:
        troubles.add(str(shard), "damaged file", error)


def member_bytes(archive: tarfile.TarFile, member: tarfile.TarInfo, _: str) -> bytes:
    """For `grouped`: whole members."""
    stream = archive.extractfile(member)
    assert stream is not None  # it is a regular file
    return stream.read()


def text_or_place(archive: tarfile.TarFile, member: tarfile.TarInfo, suffix: str) -> bytes | Place:
    """For `grouped`: texts whole, and of all else where it is."""
    if suffix in TEXT_SUFFIXES:
        return member_bytes(archive, member, suffix)
    return Place(Path(str(archive.name)), member.offset_data, member.size)


def grouped(
    shard: Path, take: Callable[[tarfile.TarFile, tarfile.TarInfo, str], Part]
) -> Iterator[tuple[str, dict[str, Part]]]:
    """Every key and its parts by suffix. Raises ShardError, where the file is cut or damaged, after what precedes."""
    key, members = "", dict[str, Part]()
    try:
        with tarfile.open(shard, "r:") as archive:
            end = shard.stat().st_size
            for member in archive:
                if member.offset_data + member.size > end:
                    raise EOFError("the file is cut short")
                folder, _, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")
                # No stem: ".hidden", which some archivers add beside every file.
                if not member.isfile() or member.issparse() or not stem:
                    continue
                stem = f"{folder}/{stem}" if folder else stem
                if stem != key and members:
                    yield key, members
                    members = {}
                key = stem
                members[suffix.lower()] = take(archive, member, suffix.lower())
            _check_end(shard, archive.offset)
    except (OSError, tarfile.TarError, EOFError) as error:
        if members:
            yield key, members
        raise ShardError(
            f"{shard} cannot be read as a tar file: {error}. Compressed ones are to be decompressed first"
        ) from error
    if members:
        yield key, members


def _check_end(shard: Path, offset: int) -> None:
    """Python's reader takes any block that is no header for the end of the archive."""
    with shard.open("rb") as file:
        file.seek(offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError("what follows the last readable member is no header")


def _picture(members: dict[str, Part]) -> str | None:
    return next((suffix for suffix in PICTURE_SUFFIXES if suffix in members), None)


def _told(members: dict[str, bytes]) -> Told | None:
    if "json" in members:
        try:
            return Told.model_validate_json(members["json"])
        except ValidationError:
            return None
    caption = members.get("txt", b"").decode("utf-8", errors="replace").strip()
    return Told(captions=[caption]) if caption else None
