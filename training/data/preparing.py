"""From pictures in any form to shards: what `python -m training prepare` does."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from model.images.preprocessing import ImageError
from model.suggestions import did_you_mean_path
from training.config import Columns, Source
from training.corpus import duplicates
from training.corpus.duplicates import Duplicate, Fingerprint, fingerprint
from training.data.entry import Entry
from training.data.files import suffix_of
from training.data.index import Index, open_index
from training.data.pictures import decoding_threads
from training.data.shards import ShardError
from training.data.shrinking import shard_picture
from training.data.sources import PictureReader
from training.data.tables import TABLES
from training.data.troubles import Troubles, reason_of
from training.data.writing import ShardWriter
from training.progress import track

AHEAD = 4  # pictures that are read ahead, for each thread

Made = TypeVar("Made")


@dataclass(frozen=True)
class Wanted:
    """What the shards are to be. `pixels`: the longest that a short side may be."""

    folder: Path
    stem: str
    shard_size: int
    pixels: int | None
    max_pixels: int
    overwrite: bool


@dataclass(frozen=True)
class Prepared:
    """What was written, what was left out, and which pictures of a test are among the latter."""

    shards: list[Path]
    samples: int
    skipped: Troubles
    repeated: list[Duplicate]


def source_of(argument: str, columns: Columns, **written: str | None) -> Source:
    """A folder, a table or shards, by what it is called; `written` are delimiter, quoting and encoding.

    Raises ShardError.
    """
    suffix = suffix_of(re.sub(r"[{}\[\]]", "", argument))
    if Path(argument).is_dir():
        form: dict[str, Any] = {"folder": [argument], "encoding": written.get("encoding")}
    elif suffix == "tar":
        form = {"shards": [argument], "encoding": written.get("encoding")}
    elif suffix in TABLES or Path(argument).is_file():  # which names those that are read
        given = {name: value for name, value in written.items() if value is not None}
        form = {"table": [argument], "columns": columns, **given}
    else:
        listed = ", ".join(f".{suffix}" for suffix in TABLES)
        raise ShardError(
            f"{argument!r} is no folder, and its name does not end in .tar, {listed}{did_you_mean_path(argument)}"
        )
    try:
        return Source(**form)
    except ValidationError as error:
        raise ShardError("; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())) from error


def prepare(sources: Sequence[Source], against: Sequence[Source], wanted: Wanted) -> Prepared:
    """Write shards of all samples but those that repeat a picture of `against`. Raises ShardError."""
    base, troubles, reader = Path.cwd(), Troubles(), PictureReader()
    earlier = sorted(wanted.folder.glob(f"{wanted.stem}-[0-9]*.tar"))
    if earlier and not wanted.overwrite:
        raise ShardError(f"{earlier[0]} is there already: choose another --to or --name, or say --overwrite")
    indexes = [open_index(source, base) for source in sources]
    written = {shard.resolve() for shard in earlier}
    for index in indexes:
        if any(Path(file).resolve() in written for file in index.files):
            raise ShardError(f"{wanted.folder} holds what is to be read: choose another --to or --name")
        troubles.merge(index.skipped.as_record())
    tests = _fingerprints(against, base, reader, wanted.max_pixels) if against else None
    repeated: list[Duplicate] = []

    def made(entry: Entry) -> tuple[str, bytes] | Duplicate | None:
        try:
            data = reader.read(entry.place)
            suffix, picture = shard_picture(data, wanted.pixels, wanted.max_pixels)
            same = _same(entry.key, _mark(data, picture), tests) if tests else None
        except (ImageError, OSError) as error:
            troubles.add(entry.key, *reason_of(error))
            return None
        return same or (suffix, picture)

    entries = (index.entry(number) for index in indexes for number in range(len(index)))
    total = sum(map(len, indexes))
    with ShardWriter(wanted.folder, wanted.stem, wanted.shard_size) as writer:
        for entry, result in track(_in_order(made, entries), "writing shards", total):
            if isinstance(result, Duplicate):
                repeated.append(result)
            elif result is not None:
                writer.add(*result, _told(entry))
    if not writer.samples:
        raise ShardError(f"nothing to write: skipped {troubles}; {len(repeated)} repeat a test picture")
    for shard in set(earlier) - set(writer.written):
        shard.unlink()
    return Prepared(writer.written, writer.samples, troubles, repeated)


def _in_order(work: Callable[[Entry], Made], entries: Iterable[Entry]) -> Iterator[tuple[Entry, Made]]:
    """Each entry and what `work` makes of it, by threads that are only some pictures ahead."""
    threads = decoding_threads()
    begun: deque[tuple[Entry, Future[Made]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for entry in entries:
                begun.append((entry, pool.submit(work, entry)))
                if len(begun) > threads * AHEAD:
                    first, future = begun.popleft()
                    yield first, future.result()
            for entry, future in begun:
                yield entry, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _told(entry: Entry) -> dict[str, Any]:
    """What the sample's JSON says: all that was known, and what it was called."""
    return {**entry.told.model_dump(exclude_defaults=True), "origin": entry.key}


def _fingerprints(sources: Sequence[Source], base: Path, reader: PictureReader, max_pixels: int) -> duplicates.Index:
    def marked(entry: Entry) -> Fingerprint | None:
        try:
            data = reader.read(entry.place)
            return _mark(data, shard_picture(data, None, max_pixels)[1])
        except (ImageError, OSError):
            return None  # nothing can repeat it

    def entries(index: Index) -> Iterable[Entry]:
        return (index.entry(number) for number in range(len(index)))

    indexes = [open_index(source, base) for source in sources]
    found = _in_order(marked, (entry for index in indexes for entry in entries(index)))
    marks = track(found, "reading the test", sum(map(len, indexes)))
    return duplicates.Index((entry.key, mark) for entry, mark in marks if mark is not None)


def _mark(data: bytes, picture: bytes) -> Fingerprint:
    """Of a picture in a shard, but with the hash of the file that it was made of. Raises ImageError."""
    try:
        return replace(fingerprint(picture), sha256=sha256(data).digest())
    except (OSError, SyntaxError, ValueError) as error:  # from broken palettes
        raise ImageError("invalid_image", "its colours cannot be read") from error


def _same(key: str, mark: Fingerprint, tests: duplicates.Index) -> Duplicate | None:
    found = tests.find(mark)
    return None if found is None else Duplicate(key, found[0], mark.sha256 in tests.exact, found[1])
