"""WebDataset shards: tar files in which members that share a key are one sample, as img2dataset writes them."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from model.data.column_names import normalized
from model.data.files import CAPTION_SUFFIXES, IMAGE_SUFFIXES, MAX_TEXT_BYTES, RECORD_SUFFIX
from model.data.skipped_samples import SkippedSamples
from model.data.tar_members import ShardError, group_by_key
from model.data.text_files import AnnotationError, decode_text, json_object
from service.bulk.sources.cells import text_of
from service.bulk.sources.columns import TEXT_NAMES
from service.bulk.sources.keys import KeyRegister
from service.bulk.sources.part import Item, Part, SourceOptions, utf8_name
from service.bulk.sources.places import Place, cut

TEXTS = (*CAPTION_SUFFIXES, RECORD_SUFFIX)


class _Member(NamedTuple):
    header: int  # byte at which its header begins
    start: int  # byte at which its content begins
    size: int


class _Sample(NamedTuple):
    key: str
    suffix: str
    member: _Member
    header: int  # byte at which the first member of its group begins
    number: int  # in the group


def plan_shard(shard: Part, options: SourceOptions, keys: KeyRegister, skipped: SkippedSamples) -> Iterator[Part]:
    """Cuts a shard into parts. Of a damaged one, all before the damage is planned, and the damage is counted."""
    places = (
        Place(number, sample.header, sample.number, sample.key)
        for number, sample in enumerate(_samples(shard, 0, skipped))
    )
    yield from cut(shard, _until_damage(shard, places, skipped), options, keys)


def _until_damage(shard: Part, places: Iterator[Place], skipped: SkippedSamples) -> Iterator[Place]:
    try:
        yield from places
    except ShardError as error:
        skipped.add(shard.path, "damaged file", error)


def read_shard(part: Part, options: SourceOptions) -> Iterator[Item]:
    """Pictures or texts by the keys of their samples."""
    handle = os.open(part.path, os.O_RDONLY)
    try:
        for sample in islice(_samples(part, part.offset, SkippedSamples()), part.group, part.group + part.rows):
            payload, error = _read(handle, sample, part, options)
            yield Item(utf8_name(sample.key), f"{utf8_name(part.path)}/{utf8_name(sample.key)}", payload, error)
    finally:
        os.close(handle)


def _read(handle: int, sample: _Sample, part: Part, options: SourceOptions) -> tuple[bytes | str | None, str | None]:
    limit = options.max_body_bytes if part.kind == "image" else MAX_TEXT_BYTES
    if sample.member.size > limit:
        return None, f"its .{sample.suffix} has more than {limit:,} bytes"
    content = os.pread(handle, sample.member.size, sample.member.start)
    if part.kind == "image":
        return (content, None) if content else (None, f"its .{sample.suffix} is empty")
    try:
        if sample.suffix != RECORD_SUFFIX:
            return text_of(decode_text(content, options.encoding))
        record = {normalized(name): value for name, value in json_object(content, options.encoding).items()}
    except AnnotationError as error:
        return None, f"its .{sample.suffix}: {error.reason}: {error}"
    found = next((record[name] for name in _names(options) if record.get(name)), None)
    return text_of(found) if found else (None, f"its .json has no text under {', '.join(_names(options)[:4])}, ...")


def _names(options: SourceOptions) -> tuple[str, ...]:
    return TEXT_NAMES if options.column is None else (normalized(options.column),)


def _samples(shard: Part, offset: int, skipped: SkippedSamples) -> Iterator[_Sample]:
    """The samples from the group on whose first member is at `offset`. Raises ShardError at damage, behind the rest."""
    suffixes = IMAGE_SUFFIXES if shard.kind == "image" else TEXTS
    for group, members in group_by_key(Path(shard.path), _locate, skipped, offset):
        header = min(member.header for member in members.values())
        for number, (key, suffix) in enumerate(_keys(group, members, suffixes, shard.path, skipped)):
            yield _Sample(key, suffix.rpartition(".")[2], members[suffix], header, number)


def _keys(
    group: str, members: dict[str, _Member], suffixes: tuple[str, ...], shard: str, skipped: SkippedSamples
) -> Iterator[tuple[str, str]]:
    """The keys of the samples of a group, and the suffix of the member that is embedded of each.

    `KEY.seg.png` beside `KEY.jpg` is a further part of it. Without one, a key goes on to the last dot of the name, as
    in IMG_2024.05.01.jpg.
    """
    plain = next((suffix for suffix in suffixes if suffix in members), None)
    if plain is not None:
        yield group, plain
        return
    dotted = [suffix for suffix in members if "." in suffix and suffix.rpartition(".")[2] in suffixes]
    for suffix in dotted:
        yield f"{group}.{suffix.rpartition('.')[0]}", suffix
    if not dotted:
        has = ", ".join(f".{suffix[:20]}" for suffix in sorted(members)[:5])
        skipped.pass_over(f"{shard}/{group}", f"a sample without a .{suffixes[0]} or the like, but with {has}")


def _locate(_: Path, member: tarfile.TarInfo, __: str) -> _Member:
    return _Member(member.offset, member.offset_data, member.size)
