"""Writes shards of samples in any form: what `python -m training prepare` does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from model.data.files import TABLE_SUFFIXES, suffix_of
from model.data.skipped_samples import SkippedSamples, skip_reason
from model.images.preprocessing import ImageError
from model.prefetch import prefetch
from model.suggestions import did_you_mean_path
from training.config import Columns, Source
from training.data.decoding_pool import cores_of_process
from training.data.fingerprints import Duplicate, Fingerprint, FingerprintIndex, fingerprint
from training.data.image_reader import ImageReader
from training.data.index import SampleIndex, open_index
from training.data.sample import SampleRecord
from training.data.shard_writer import ShardSample, ShardWriter, shard_image
from training.data.shards import ShardError
from training.data.stored_vectors import to_npz
from training.progress import track

AHEAD = 4  # images that are read ahead, for each thread

Result = TypeVar("Result")


@dataclass(frozen=True)
class PrepareOptions:
    """What the shards are to be. `pixels`: the longest that a short side may be."""

    folder: Path
    stem: str
    shard_size: int
    pixels: int | None
    max_pixels: int
    overwrite: bool


@dataclass(frozen=True)
class Prepared:
    """What was written, what was left out, and which images of a test are among the latter.

    `encoded` of the samples were encoded anew: they were reduced, or were in a format that training does not read.
    """

    shards: list[Path]
    samples: int
    encoded: int
    skipped: SkippedSamples
    repeated: list[Duplicate]


def parse_source(argument: str, columns: Columns, **dialect: str | None) -> Source:
    """A folder, a table or shards, by what it is called; `dialect` are delimiter, quoting and encoding.

    Raises ShardError.
    """
    suffix = suffix_of(re.sub(r"[{}\[\]]", "", argument))
    if Path(argument).is_dir():
        form: dict[str, Any] = {"folder": [argument], "encoding": dialect.get("encoding")}
    elif suffix == "tar":
        form = {"shards": [argument], "encoding": dialect.get("encoding")}
    elif suffix in TABLE_SUFFIXES or Path(argument).is_file():  # which names those that are read
        given = {name: value for name, value in dialect.items() if value is not None}
        form = {"table": [argument], "columns": columns, **given}
    else:
        listed = ", ".join(f".{suffix}" for suffix in TABLE_SUFFIXES)
        raise ShardError(
            f"{argument!r} is no folder, and its name does not end in .tar, {listed}{did_you_mean_path(argument)}"
        )
    try:
        return Source(**form)
    except ValidationError as error:
        raise ShardError("; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())) from error


def prepare(sources: Sequence[Source], against: Sequence[Source], options: PrepareOptions) -> Prepared:
    """Write shards of all samples but those that repeat a picture of `against`. Raises ShardError."""
    base, skipped, reader = Path.cwd(), SkippedSamples(), ImageReader()
    earlier = sorted(options.folder.glob(f"{options.stem}-[0-9]*.tar"))
    if earlier and not options.overwrite:
        raise ShardError(f"{earlier[0]} is there already: choose another --to or --name, or say --overwrite")
    indexes = [open_index(source, base) for source in sources]
    earlier_files = {shard.resolve() for shard in earlier}
    for index in indexes:
        if any(Path(file).resolve() in earlier_files for file in index.files):
            raise ShardError(f"{options.folder} holds what is to be read: choose another --to or --name")
        skipped.merge(index.skipped.as_record())
    tests = _fingerprints(against, base, reader, options.max_pixels) if against else None
    repeated: list[Duplicate] = []
    encoded: list[bool] = []

    def convert(record: SampleRecord) -> tuple[str, bytes, bool] | Duplicate | None:
        try:
            data = reader.read(record.location)
            suffix, image = shard_image(data, options.pixels, options.max_pixels)
            repeated_test = _find_repeated(record.key, _fingerprint_of(data, image), tests) if tests else None
        except (ImageError, OSError) as error:
            skipped.add(record.key, *skip_reason(error))
            return None
        return repeated_test or (suffix, image, image is not data)

    def samples() -> Iterator[ShardSample]:
        for record, result in track(_map_records(convert, _records(indexes)), "writing shards", sum(map(len, indexes))):
            if isinstance(result, Duplicate):
                repeated.append(result)
            elif result is not None:
                suffix, image, anew = result
                encoded.append(anew)
                yield ShardSample(suffix, image, _shard_record(record), _vectors(record, skipped))

    writer = ShardWriter(options.folder, options.stem, options.shard_size)
    writer.write(samples())
    if not writer.samples:
        raise ShardError(f"nothing to write: skipped {skipped}; {len(repeated)} repeat a test picture")
    for shard in set(earlier) - set(writer.written):
        shard.unlink()
    return Prepared(writer.written, writer.samples, sum(encoded), skipped, repeated)


def _map_records(
    function: Callable[[SampleRecord], Result], records: Iterable[SampleRecord]
) -> Iterator[tuple[SampleRecord, Result]]:
    """Each record and its result, in order, by threads that are only some images ahead."""
    threads = cores_of_process()
    pool = ThreadPoolExecutor(threads)
    try:
        yield from prefetch(pool, lambda record: (record, function(record)), records, threads * AHEAD)
    finally:
        pool.shutdown(cancel_futures=True)


def _shard_record(record: SampleRecord) -> dict[str, Any]:
    """The JSON of a sample: its annotation, and the key that it had."""
    return {**record.annotation.model_dump(exclude_defaults=True), "origin": record.key}


def _vectors(record: SampleRecord, skipped: SkippedSamples) -> bytes | None:
    """Stored vectors; those that cannot be read are left away, and counted."""
    try:
        return None if record.vectors is None else to_npz(record.vectors)
    except OSError as error:
        skipped.pass_over(f"{record.key} ({error})", "stored vectors that cannot be read")
        return None


def _fingerprints(sources: Sequence[Source], base: Path, reader: ImageReader, max_pixels: int) -> FingerprintIndex:
    def fingerprint_record(record: SampleRecord) -> Fingerprint | None:
        try:
            data = reader.read(record.location)
            return _fingerprint_of(data, shard_image(data, None, max_pixels)[1])
        except (ImageError, OSError):
            return None  # nothing can repeat it

    indexes = [open_index(source, base) for source in sources]
    found = track(_map_records(fingerprint_record, _records(indexes)), "reading the test", sum(map(len, indexes)))
    return FingerprintIndex((record.key, each) for record, each in found if each is not None)


def _records(indexes: Iterable[SampleIndex]) -> Iterator[SampleRecord]:
    return (index.record(number) for index in indexes for number in range(len(index)))


def _fingerprint_of(data: bytes, image: bytes) -> Fingerprint:
    """That of an image in a shard, but with the hash of the file `data` that it was made of. Raises ImageError."""
    try:
        return replace(fingerprint(image), sha256=sha256(data).digest())
    except (OSError, SyntaxError, ValueError) as error:  # from broken palettes
        raise ImageError("invalid_image", "its colours cannot be read") from error


def _find_repeated(key: str, query: Fingerprint, tests: FingerprintIndex) -> Duplicate | None:
    found = tests.find(query)
    return None if found is None else Duplicate(key, found[0], query.sha256 in tests.exact, found[1])
