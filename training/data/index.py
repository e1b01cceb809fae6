"""The index of a source: the location and the texts of each sample, in a few dozen bytes of memory a sample.

The texts lie in a file that is mapped, not read. Where that is in a cache folder, a source that was indexed once is
opened at once, and the processes of one machine share its pages.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from model.data.skipped_samples import SkippedSamples
from model.data.text_files import DAMAGED_TEXT
from model.files import replace_folder
from model.progress import Count, log_periodically
from training.config import Data, Source
from training.data.annotation import note_labels
from training.data.folders import scan_folder
from training.data.phrases import PHRASE, decode_phrase, write_phrases
from training.data.sample import PARQUET_ROW, WHOLE_FILE, Annotation, SampleLocation, SampleRecord
from training.data.shards import ShardError, find_shards, scan_shard
from training.data.tables import MAX_LOST_SHARE, scan_tables
from training.progress import console, write_line
from training.settings import Settings

log = logging.getLogger(__name__)

BUCKETS = 10_000  # of keys, for the hold-out
VERSION = 4  # of the files in the cache
ANNOTATION = "told"  # its name in those files
# offset and size as in `SampleLocation`; file and label by number, -1 for none; where the record is in `texts`; the
# first of its phrases, and how many; where stored vectors are in the same file, of size 0 for none
FIELDS = {
    "file": "i4", "offset": "i8", "size": "i8", "opaque": "i1", "label": "i4", "bucket": "i2", "text": "i8",
    "text_size": "i4", "phrase": "i8", "phrase_count": "i4", "vectors": "i8", "vectors_size": "i4",
}  # fmt: skip


class SampleIndex:
    """The records of all usable samples of a source, by number."""

    def __init__(
        self,
        samples: dict[str, npt.NDArray[np.int64]],
        texts: npt.NDArray[np.uint8],
        phrases: npt.NDArray[Any],
        files: list[str],
        fields: list[str],
        skipped: SkippedSamples,
        folder: Path | None = None,
    ) -> None:
        """`samples` has a column of each of FIELDS, `texts` the JSON of all records, each with its phrases behind it.

        `phrases` are those of all samples, one after the other, as PHRASE says of their texts.
        `files` are those that hold many images, `fields` those that captions are from; `folder` is where the index is
        cached, if it is.
        """
        self.samples, self.skipped, self.folder = samples, skipped, folder
        self.texts, self.phrases, self.files, self.fields = texts, phrases, files, fields

    def __len__(self) -> int:
        return len(self.samples["text"])

    @property
    def nbytes(self) -> int:
        """Bytes of memory, without what is mapped."""
        return sum(column.nbytes for column in self.samples.values())

    def record(self, number: int) -> SampleRecord:
        """The record of a sample."""
        stored = self._load_stored(number)
        opaque = bool(self.samples["opaque"][number])
        annotation, vectors = _stored_annotation(stored), self.vectors(number)
        return SampleRecord(stored["key"], self.location(number), annotation, opaque, vectors)

    def location(self, number: int) -> SampleLocation:
        """Where the encoded image of a sample is."""
        file, offset, size = (int(self.samples[name][number]) for name in ("file", "offset", "size"))
        if size not in (WHOLE_FILE, PARQUET_ROW):
            return SampleLocation(Path(self.files[file]), offset, size)
        stored = self._load_stored(number)
        return SampleLocation(
            Path(self.files[file] if file >= 0 else stored["file"]), offset, size, stored.get("column", "")
        )

    def phrase_text(self, place: int) -> str:
        """The text of a phrase, by its place among those of all samples."""
        start, size = int(self.phrases["start"][place]), int(self.phrases["size"][place])
        return decode_phrase(self.texts.data[start : start + size])

    def vectors(self, number: int) -> SampleLocation | None:
        """Where the stored vectors of a sample are, if there are any."""
        file, offset, size = (int(self.samples[name][number]) for name in ("file", "vectors", "vectors_size"))
        return SampleLocation(Path(self.files[file]), offset, size) if size else None

    def annotation(self, number: int) -> Annotation:
        """The texts of a sample."""
        return _stored_annotation(self._load_stored(number))

    def _load_stored(self, number: int) -> Any:
        start, size = int(self.samples["text"][number]), int(self.samples["text_size"][number])
        return json.loads(self.texts[start : start + size].tobytes())


def _stored_annotation(stored: Any) -> Annotation:
    return Annotation.model_construct(**stored[ANNOTATION])  # it was checked when it was indexed


def scan(
    source: Source, base: Path, skipped: SkippedSamples, caption_names: Sequence[str] = ()
) -> Iterator[SampleRecord]:
    """The records of all usable samples of `source`, in an order that depends on their names alone.

    `caption_names` are fields that hold captions beside those of the usual names.

    Raises ShardError if a pattern matches nothing or a table lacks the columns.
    """
    if source.folder:
        for folder in source.folder:
            yield from scan_folder(base / folder, source, skipped, caption_names)
    elif source.table:
        yield from scan_tables(find_shards(source.table, base), source, skipped, caption_names)
    else:
        for shard in find_shards(source.shards, base):
            yield from scan_shard(shard, skipped, source.encoding, caption_names)


def index_cache(data: Data) -> Path | None:
    """Where indexes are cached: with images in memory nowhere, since decoding those takes far longer."""
    return Settings().cache / "indexes" if data.pictures == "disk" else None


def open_index(source: Source, base: Path, cache: Path | None = None, caption_names: Sequence[str] = ()) -> SampleIndex:
    """The index of `source`, from `cache` if its files have not changed since; `caption_names` as `scan` takes them.

    Raises ShardError if it is empty.
    """
    if source.folder:  # to see whether anything changed takes as long as to index
        cache = None
    folder = cache / _digest(source, base, caption_names) if cache else None
    if folder is not None and folder.is_dir():
        kept = _load(folder)
        _refuse_lost_texts(source, kept.skipped, len(kept))
        return kept
    skipped = SkippedSamples()
    index = _build(scan(source, base, skipped, caption_names), skipped, folder, ", ".join(source.where))
    if not len(index):
        for line in skipped.remarks():
            log.warning("%s", line)
        raise ShardError(f"no usable sample in {', '.join(source.where)}: skipped {skipped.with_examples()}")
    skipped.log_summary(write_line)
    _refuse_lost_texts(source, skipped, len(index))
    return index


def _refuse_lost_texts(source: Source, skipped: SkippedSamples, usable: int) -> None:
    """Raise ShardError where more than a small share of the texts is in another encoding."""
    lost = skipped.counts[DAMAGED_TEXT]
    if lost > MAX_LOST_SHARE * (usable + lost):
        raise ShardError(
            f"{', '.join(source.where)}: {lost:,} of {usable + lost:,} texts are damaged or in another encoding, first "
            f"{skipped.examples[DAMAGED_TEXT]}. Say `encoding: NAME` in the source if all of them are in it"
        )


def _digest(source: Source, base: Path, caption_names: Sequence[str]) -> str:
    """Hash of what an index depends on: the files with their sizes and times, and how they are read."""
    read = {"columns", "delimiter", "quoting", "encoding"}
    seen = [VERSION, unicodedata.unidata_version, source.model_dump_json(include=read), bool(source.table)]
    seen += caption_names
    for file in find_shards(source.where, base):
        state = file.stat()
        seen.append((str(file.resolve()), state.st_size, state.st_mtime_ns))
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:24]


def _build(records: Iterator[SampleRecord], skipped: SkippedSamples, folder: Path | None, what: str) -> SampleIndex:
    if folder is None:
        with tempfile.TemporaryFile() as texts, tempfile.TemporaryFile() as phrases:
            return _index_records(records, skipped, texts, phrases, what)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=folder.parent)
    except OSError as error:
        log.warning("the index is not kept: %s", error)
        return _build(records, skipped, None, what)
    with scratch:
        texts_file, phrases_file = Path(scratch.name) / "texts", Path(scratch.name) / "phrases"
        with texts_file.open("w+b") as texts, phrases_file.open("w+b") as phrases:
            index = _index_records(records, skipped, texts, phrases, what)
        if not len(index):
            return index
        with replace_folder(folder, concurrent=True) as draft:
            texts_file.rename(draft / "texts")
            phrases_file.rename(draft / "phrases")
            np.save(draft / "samples.npy", np.stack([index.samples[name].astype(np.int64) for name in FIELDS]))
            about = {"files": index.files, "fields": index.fields, **skipped.as_record()}
            (draft / "about.json").write_text(json.dumps(about), "utf-8")
    return _load(folder, silent=True)


def _load(folder: Path, silent: bool = False) -> SampleIndex:
    about = json.loads((folder / "about.json").read_text("utf-8"))
    columns = np.load(folder / "samples.npy")
    samples = {name: column.astype(kind) for (name, kind), column in zip(FIELDS.items(), columns, strict=True)}
    skipped = SkippedSamples()
    skipped.merge(about)
    if not silent:
        skipped.log_summary(write_line)
    texts, phrases = np.memmap(folder / "texts", np.uint8, "r"), np.memmap(folder / "phrases", PHRASE, "r")
    return SampleIndex(samples, texts, phrases, about["files"], about["fields"], skipped, folder)


def _index_records(
    records: Iterator[SampleRecord], skipped: SkippedSamples, texts: BinaryIO, phrases: BinaryIO, what: str
) -> SampleIndex:
    columns = {name: array("q") for name in FIELDS}
    files: dict[str, int] = {}
    labels: dict[str, int] = {}
    fields: dict[str, int] = {}
    captioned = False
    count = Count(f"indexing {what}", 0)
    with console.status(count.what) as status, indexing(count):
        for number, record in enumerate(records):
            stored = {"key": record.key, ANNOTATION: record.annotation.model_dump(exclude_defaults=True)}
            location, label = record.location, record.annotation.label
            captioned = captioned or bool(record.annotation.captions)
            if location.size == WHOLE_FILE:
                stored["file"] = str(location.file)
            if location.column:
                stored["column"] = location.column
            text = json.dumps(stored, ensure_ascii=False).encode("utf-8", "surrogatepass")  # in names of files
            values = {
                "file": -1 if location.size == WHOLE_FILE else files.setdefault(str(location.file), len(files)),
                "offset": location.offset,
                "size": location.size,
                "opaque": record.opaque,
                "label": -1 if label is None else labels.setdefault(label, len(labels)),
                "bucket": _bucket(record.key),
                "text": texts.tell(),
                "text_size": len(text),
                "phrase": phrases.tell() // PHRASE.itemsize,
                "vectors": record.vectors.offset if record.vectors else 0,
                "vectors_size": record.vectors.size if record.vectors else 0,
            }
            texts.write(text)
            values["phrase_count"] = write_phrases(record.annotation, fields, texts, phrases)
            for name, value in values.items():
                columns[name].append(value)
            count.done = number + 1
            if number % 1000 == 999:
                status.update(f"{count.what}: {count.done:,}")
    samples = {name: np.frombuffer(columns[name], np.int64).astype(kind) for name, kind in FIELDS.items()}
    mapped = _map(texts, np.dtype(np.uint8)), _map(phrases, PHRASE)
    note_labels(labels, skipped)
    if len(labels) == 1 and not captioned:
        skipped.note(f"all samples have the one label {next(iter(labels))!r}: alone they teach nothing apart")
    return SampleIndex(samples, *mapped, list(files), list(fields), skipped)


def _map(file: BinaryIO, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    file.flush()
    return np.memmap(file, kind, "r") if file.tell() else np.empty(0, kind)


def indexing(count: Count) -> AbstractContextManager[None]:
    """Lines of how many samples were found, where there is no terminal to show it on."""
    if console.is_terminal:
        return nullcontext()
    return log_periodically(write_line, lambda: f"{count.what}: {count.done:,} samples" if count.done else count.what)


def _bucket(key: str) -> int:
    """The split depends on the shard's name and the item's key alone: the same in every run over the same files."""
    return int.from_bytes(hashlib.sha256(key.encode(errors="replace")).digest()[:8]) % BUCKETS
