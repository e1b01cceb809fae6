"""Reads WebDataset shards: tar files in which members that share a key are one sample: `KEY.jpg`, `KEY.json`."""

from __future__ import annotations

import logging
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import bracex

from model.data.files import (
    IMAGE_SUFFIXES,
    MAX_TEXT_BYTES,
    OPAQUE_SUFFIXES,
    PICKLE_SUFFIX,
    RECORD_SUFFIX,
    SYNTHETIC_SUFFIX,
    TEXT_SUFFIXES,
    VECTOR_SUFFIX,
    read_bounded,
)
from model.data.skipped_samples import SkippedSamples
from model.data.tar_members import ShardError, group_by_key, read_member
from model.suggestions import did_you_mean_path
from training.data.annotation import AnnotationReader
from training.data.sample import Sample, SampleLocation, SampleRecord
from training.progress import write_line

log = logging.getLogger(__name__)

__all__ = ["ShardError", "find_shards", "read_shards", "scan_shard"]

MAX_NAMES = 1_000_000  # that one brace list may stand for
CLASS_NAMES = "classnames.txt"  # beside shards with KEY.cls, or above, as CLIP_benchmark has it

REINFORCED = (SYNTHETIC_SUFFIX, VECTOR_SUFFIX, PICKLE_SUFFIX)


class LocatedText(bytes):
    """The bytes of a text, and where they are."""

    location: SampleLocation


Parts = Mapping[str, bytes | SampleLocation]  # of a sample by suffix: the bytes of texts, the location of all else


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
        return bracex.expand(pattern, limit=MAX_NAMES)
    except bracex.ExpansionLimitException as error:
        raise ShardError(f"{pattern!r} stands for more than {MAX_NAMES:,} files") from error


def _glob(pattern: str, base: Path) -> list[Path]:
    root, rest = (Path("/"), pattern.lstrip("/")) if pattern.startswith("/") else (base, pattern)
    return sorted(root.glob(rest)) if rest else []


def read_shards(shards: Iterable[Path], skipped: SkippedSamples | None = None) -> Iterator[Sample]:
    """All complete samples, in order. Those without picture or text are skipped, and counted in `skipped`.

    Raises ShardError for a shard that cannot be read to its end: what is measured on a part would mislead.
    """
    counts = skipped if skipped is not None else SkippedSamples()
    for shard in shards:
        for record in _scan(shard, counts, None):
            yield Sample(record.key, _read(record.location), record.annotation)
    if skipped is None:
        counts.log_summary(write_line)


def scan_shard(
    shard: Path, skipped: SkippedSamples, encoding: str | None = None, caption_names: Sequence[str] = ()
) -> Iterator[SampleRecord]:
    """All complete samples, in order, without reading their pictures; of a damaged shard those before the damage."""
    try:
        yield from _scan(shard, skipped, encoding, caption_names)
    except ShardError as error:
        skipped.add(str(shard), "damaged file", error)


def _read(location: SampleLocation) -> bytes:
    with location.file.open("rb") as file:
        file.seek(location.offset)
        return file.read(location.size)


def _scan(
    shard: Path, skipped: SkippedSamples, encoding: str | None, caption_names: Sequence[str] = ()
) -> Iterator[SampleRecord]:
    reader = AnnotationReader(skipped, encoding, _class_names(shard), caption_names)
    for group, members in group_by_key(shard, text_or_location, skipped):
        for key, parts in _split_dotted_keys(group, members, skipped):
            name = f"{shard.name}/{key}"
            image = _image_suffix(parts)
            if image is None:
                skipped.add(name, "no picture", f"it has {', '.join(f'.{suffix}' for suffix in sorted(parts)[:10])}")
                continue
            vectors = _vectors(name, parts, skipped)
            annotation = reader.read(name, _texts(name, parts, skipped), vectors is not None)
            location = parts[image]
            assert isinstance(location, SampleLocation)  # as `text_or_place` makes them of pictures
            if annotation is not None and location.size == 0:
                skipped.add(name, "empty picture", f".{image} has no bytes")
            elif annotation is not None:
                yield SampleRecord(name, location, annotation, image in OPAQUE_SUFFIXES, vectors)


def _texts(name: str, parts: Parts, skipped: SkippedSamples) -> dict[str, bytes]:
    for suffix in (*TEXT_SUFFIXES, SYNTHETIC_SUFFIX):
        if isinstance(parts.get(suffix), SampleLocation):
            skipped.pass_over(f"{name}.{suffix}", f"a text of more than {MAX_TEXT_BYTES:,} bytes")
    return {suffix: part for suffix, part in parts.items() if isinstance(part, bytes)}


def _vectors(name: str, parts: Parts, skipped: SkippedSamples) -> SampleLocation | None:
    """Where vectors of a teacher are stored: KEY.npz, or KEY.json with `text_emb`. Never a pickle."""
    if PICKLE_SUFFIX in parts and VECTOR_SUFFIX not in parts:
        skipped.pass_over(
            f"{name}.{PICKLE_SUFFIX}",
            f"vectors in a pickle, which is never read: write KEY.{VECTOR_SUFFIX} instead, "
            "numpy.savez(file, image_emb=..., text_emb=...)",
        )
    stored = parts.get(VECTOR_SUFFIX)
    if isinstance(stored, SampleLocation):
        return stored
    record = parts.get(RECORD_SUFFIX)
    return record.location if isinstance(record, LocatedText) and record.find(b'"text_emb"') >= 0 else None


def _class_names(shard: Path) -> list[str]:
    for folder in (shard.parent, shard.parent.parent):
        if (folder / CLASS_NAMES).is_file():
            lines = read_bounded(folder / CLASS_NAMES, MAX_TEXT_BYTES).decode("utf-8", "replace").splitlines()
            return [line.strip() for line in lines if line.strip()]
    return []


def text_or_location(shard: Path, member: tarfile.TarInfo, suffix: str) -> bytes | SampleLocation:
    """For `group_by_key`: the bytes of texts; the location of all else, and of what is too large for a text."""
    if suffix.rpartition(".")[2] in TEXT_SUFFIXES and member.size <= MAX_TEXT_BYTES:
        text = LocatedText(read_member(shard, member))
        text.location = SampleLocation(shard, member.offset_data, member.size)
        return text
    return SampleLocation(shard, member.offset_data, member.size)


def member_bytes(shard: Path, member: tarfile.TarInfo, _: str) -> bytes:
    """For `group_by_key`: the bytes of any member."""
    return read_member(shard, member)


def _split_dotted_keys(group: str, members: Parts, skipped: SkippedSamples) -> Iterator[tuple[str, Parts]]:
    """The samples of a group of members: one, as WebDataset has it, or several whose keys have dots.

    `KEY.seg.png` beside `KEY.jpg` is a further part of KEY. Where what follows the first dot is no suffix that is
    known, but what follows the last one is, the key ends there, as in IMG_2024.05.01.jpg.
    """
    plain = {suffix: part for suffix, part in members.items() if "." not in suffix or suffix in REINFORCED}
    dotted: dict[str, dict[str, bytes | SampleLocation]] = {}
    for suffix, part in members.items():
        rest, dot, last = suffix.rpartition(".")
        if dot and last in (*IMAGE_SUFFIXES, *TEXT_SUFFIXES):
            dotted.setdefault(rest, {})[last] = part
    complete = {
        rest: parts
        for rest, parts in dotted.items()
        if _image_suffix(parts) and not parts.keys() <= {_image_suffix(parts)}
    }
    if _image_suffix(plain) is not None:
        yield group, plain
        _pass_over(group, members, complete, skipped)
        dotted = complete
    elif not dotted or (plain and not complete):
        yield group, members
        return
    elif plain:
        yield group, plain
    for rest, parts in dotted.items():
        skipped.note("keys with dots: where no other suffix is known, a key ends at the last dot of the name")
        yield f"{group}.{rest}", parts


def _pass_over(group: str, members: Parts, samples: Iterable[str], skipped: SkippedSamples) -> None:
    """Count what a sample has beside its picture and its texts."""
    for suffix in members.keys() - {*IMAGE_SUFFIXES, *TEXT_SUFFIXES, *REINFORCED}:
        if suffix.rpartition(".")[0] not in samples:
            skipped.pass_over(f"{group}.{suffix}", f"a part that is not read, .{suffix[-40:]}")


def _image_suffix(members: Mapping[str, object]) -> str | None:
    return next((suffix for suffix in IMAGE_SUFFIXES if suffix in members), None)
