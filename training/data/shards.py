"""WebDataset shards: tar files in which members that share a key are one sample: `KEY.jpg`, `KEY.json`."""

from __future__ import annotations

import logging
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import bracex

from model.suggestions import did_you_mean_path
from training.data.annotation import Annotator
from training.data.entry import Entry, Place, Told
from training.data.files import MAX_TEXT_BYTES, OPAQUE_SUFFIXES, PICTURE_SUFFIXES, TEXT_SUFFIXES, read_bounded
from training.data.tar_members import ShardError, grouped, read_member
from training.data.troubles import Troubles

log = logging.getLogger(__name__)

__all__ = ["Sample", "ShardError", "find_shards", "read_shards", "sample_of", "scan_shard"]

MOST_NAMES = 1_000_000  # that one brace list may stand for
CLASS_NAMES = "classnames.txt"  # beside shards with KEY.cls, or above, as CLIP_benchmark has it

Parts = Mapping[str, bytes | Place]  # of a sample by suffix: texts whole, and of all else where it is


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


def read_shards(shards: Iterable[Path], skipped: Troubles | None = None) -> Iterator[Sample]:
    """All complete samples, in order. Those without picture or text are skipped, and counted in `skipped`.

    Raises ShardError for a shard that cannot be read to its end: what is measured on a part would mislead.
    """
    counts = skipped if skipped is not None else Troubles()
    for shard in shards:
        for entry in _entries(shard, counts, None):
            yield sample_of(entry.key, _read(entry.place), entry.told)
    if skipped is None:
        counts.tell()


def scan_shard(shard: Path, troubles: Troubles, encoding: str | None = None) -> Iterator[Entry]:
    """All complete samples, in order, without reading their pictures; of a damaged shard those before the damage."""
    try:
        yield from _entries(shard, troubles, encoding)
    except ShardError as error:
        troubles.add(str(shard), "damaged file", error)


def _read(place: Place) -> bytes:
    with place.file.open("rb") as file:
        file.seek(place.offset)
        return file.read(place.size)


def _entries(shard: Path, skipped: Troubles, encoding: str | None) -> Iterator[Entry]:
    annotator = Annotator(skipped, encoding, _class_names(shard))
    for group, members in grouped(shard, text_or_place, skipped):
        for key, parts in _samples(group, members, skipped):
            name = f"{shard.name}/{key}"
            picture = _picture(parts)
            if picture is None:
                skipped.add(name, "no picture", f"it has {', '.join(f'.{suffix}' for suffix in sorted(parts)[:10])}")
                continue
            told, place = annotator.annotation(name, _texts(name, parts, skipped)), parts[picture]
            assert isinstance(place, Place)  # as `text_or_place` makes them of pictures
            if told is not None and place.size == 0:
                skipped.add(name, "empty picture", f".{picture} has no bytes")
            elif told is not None:
                yield Entry(name, place, told, opaque=picture in OPAQUE_SUFFIXES)


def _texts(name: str, parts: Parts, skipped: Troubles) -> dict[str, bytes]:
    for suffix in TEXT_SUFFIXES:
        if isinstance(parts.get(suffix), Place):
            skipped.pass_over(f"{name}.{suffix}", f"a text of more than {MAX_TEXT_BYTES:,} bytes")
    return {suffix: part for suffix, part in parts.items() if isinstance(part, bytes)}


def _class_names(shard: Path) -> list[str]:
    for folder in (shard.parent, shard.parent.parent):
        if (folder / CLASS_NAMES).is_file():
            lines = read_bounded(folder / CLASS_NAMES, MAX_TEXT_BYTES).decode("utf-8", "replace").splitlines()
            return [line.strip() for line in lines if line.strip()]
    return []


def text_or_place(shard: Path, member: tarfile.TarInfo, suffix: str) -> bytes | Place:
    """For `grouped`: texts whole, and of all else, and of what is too large for a text, where it is."""
    if suffix.rpartition(".")[2] in TEXT_SUFFIXES and member.size <= MAX_TEXT_BYTES:
        return read_member(shard, member)
    return Place(shard, member.offset_data, member.size)


def member_bytes(shard: Path, member: tarfile.TarInfo, _: str) -> bytes:
    """For `grouped`: whole members."""
    return read_member(shard, member)


def _samples(group: str, members: Parts, skipped: Troubles) -> Iterator[tuple[str, Parts]]:
    """The samples of a group of members: one, as WebDataset has it, or several whose keys have dots.

    `KEY.seg.png` beside `KEY.jpg` is a further part of KEY. Where what follows the first dot is no suffix that is
    known, but what follows the last one is, the key ends there, as in IMG_2024.05.01.jpg.
    """
    plain = {suffix: part for suffix, part in members.items() if "." not in suffix}
    dotted: dict[str, dict[str, bytes | Place]] = {}
    for suffix, part in members.items():
        rest, dot, last = suffix.rpartition(".")
        if dot and last in (*PICTURE_SUFFIXES, *TEXT_SUFFIXES):
            dotted.setdefault(rest, {})[last] = part
    whole = {rest: parts for rest, parts in dotted.items() if _picture(parts) and not parts.keys() <= {_picture(parts)}}
    if _picture(plain) is not None:
        yield group, plain
        _pass_over(group, members, whole, skipped)
        dotted = whole
    elif not dotted or (plain and not whole):
        yield group, members
        return
    elif plain:
        yield group, plain
    for rest, parts in dotted.items():
        skipped.note("keys with dots: where no other suffix is known, a key ends at the last dot of the name")
        yield f"{group}.{rest}", parts


def _pass_over(group: str, members: Parts, samples: Iterable[str], skipped: Troubles) -> None:
    """Count what a sample has beside its picture and its texts."""
    for suffix in members.keys() - {*PICTURE_SUFFIXES, *TEXT_SUFFIXES}:
        if suffix.rpartition(".")[0] not in samples:
            skipped.pass_over(f"{group}.{suffix}", f"a part that is not read, .{suffix[-40:]}")


def _picture(members: Mapping[str, object]) -> str | None:
    return next((suffix for suffix in PICTURE_SUFFIXES if suffix in members), None)
