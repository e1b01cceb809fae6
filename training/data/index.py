"""The index of a source: where each picture is and what is said of it, in a few dozen bytes of memory a sample.

The texts lie in a file that is mapped, not read. Where that is in a cache folder, a source that was indexed once is
opened at once, and the processes of one machine share its pages.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from model.progress import Count, log_periodically
from training.config import Data, Source
from training.data.entry import WHOLE, Entry, Place, Told
from training.data.labels import note_labels
from training.data.shards import ShardError, find_shards
from training.data.sources import scan
from training.data.tables import MOST_LOST
from training.data.text_files import DAMAGED_TEXT
from training.data.troubles import Troubles
from training.progress import console, write_line
from training.settings import Settings

log = logging.getLogger(__name__)

BUCKETS = 10_000  # of keys, for the hold-out
VERSION = 2  # of the files in the cache
# offset and size as in `Place`; file and label by number, -1 for none; where the text is in `texts`
FIELDS = {
    "file": "i4", "offset": "i8", "size": "i8", "opaque": "i1", "label": "i4", "bucket": "i2", "text": "i8",
    "text_size": "i4",
}  # fmt: skip


class Index:
    """All samples of a source that can be drawn, by number."""

    def __init__(
        self,
        samples: dict[str, npt.NDArray[np.int64]],
        texts: npt.NDArray[np.uint8],
        files: list[str],
        skipped: Troubles,
        folder: Path | None = None,
    ) -> None:
        """`files` are those that hold many pictures; `folder` is where it is cached, if it is."""
        self.samples, self.skipped, self.folder = samples, skipped, folder
        self._texts, self.files = texts, files

    def __len__(self) -> int:
        return len(self.samples["text"])

    @property
    def nbytes(self) -> int:
        """Bytes of memory, without what is mapped."""
        return sum(column.nbytes for column in self.samples.values())

    def entry(self, number: int) -> Entry:
        """What was indexed."""
        record = self._record(number)
        file = int(self.samples["file"][number])
        place = Place(
            Path(self.files[file] if file >= 0 else record["file"]),
            int(self.samples["offset"][number]),
            int(self.samples["size"][number]),
            record.get("column", ""),
        )
        return Entry(record["key"], place, _told(record), bool(self.samples["opaque"][number]))

    def told(self, number: int) -> Told:
        """What is said of a sample."""
        return _told(self._record(number))

    def _record(self, number: int) -> Any:
        start, size = int(self.samples["text"][number]), int(self.samples["text_size"][number])
        return json.loads(self._texts[start : start + size].tobytes())


def _told(record: Any) -> Told:
    return Told.model_construct(**record["told"])  # it was checked when it was indexed


def index_cache(data: Data) -> Path | None:
    """Where indexes are kept: for pictures in memory nowhere, since decoding those takes far longer."""
    return Settings().cache / "indexes" if data.pictures == "disk" else None


def open_index(source: Source, base: Path, cache: Path | None = None) -> Index:
    """The index of `source`, from `cache` if its files have not changed since. Raises ShardError if it is empty."""
    if source.folder:  # to see whether anything changed takes as long as to index
        cache = None
    folder = cache / _digest(source, base) if cache else None
    if folder is not None and folder.is_dir():
        kept = _load(folder)
        _refuse_lost_texts(source, kept.skipped, len(kept))
        return kept
    troubles = Troubles()
    index = _build(scan(source, base, troubles), troubles, folder, ", ".join(source.where))
    if not len(index):
        for line in troubles.remarks():
            log.warning("%s", line)
        raise ShardError(f"no usable sample in {', '.join(source.where)}: skipped {troubles.with_examples()}")
    troubles.tell()
    _refuse_lost_texts(source, troubles, len(index))
    return index


def _refuse_lost_texts(source: Source, troubles: Troubles, usable: int) -> None:
    """Raise ShardError where more than a small share of the texts is in another encoding."""
    lost = troubles.counts[DAMAGED_TEXT]
    if lost > MOST_LOST * (usable + lost):
        raise ShardError(
            f"{', '.join(source.where)}: {lost:,} of {usable + lost:,} texts are damaged or in another encoding, first "
            f"{troubles.examples[DAMAGED_TEXT]}. Say `encoding: NAME` in the source if all of them are in it"
        )


def _digest(source: Source, base: Path) -> str:
    """Of what the index depends on: the files and their state, and which columns are read."""
    read = {"columns", "delimiter", "quoting", "encoding"}
    seen = [VERSION, source.model_dump_json(include=read), bool(source.table)]
    for file in find_shards(source.where, base):
        state = file.stat()
        seen.append((str(file.resolve()), state.st_size, state.st_mtime_ns))
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:24]


def _build(entries: Iterator[Entry], troubles: Troubles, folder: Path | None, what: str) -> Index:
    if folder is None:
        with tempfile.TemporaryFile() as texts:
            return _fill(entries, troubles, texts, what)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=folder.parent))
    except OSError as error:
        log.warning("the index is not kept: %s", error)
        return _build(entries, troubles, None, what)
    try:
        with (draft / "texts").open("w+b") as texts:
            index = _fill(entries, troubles, texts, what)
        if not len(index):
            return index
        np.save(draft / "samples.npy", np.stack([index.samples[name].astype(np.int64) for name in FIELDS]))
        (draft / "about.json").write_text(json.dumps({"files": index.files, **troubles.as_record()}), "utf-8")
        try:
            draft.rename(folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise
        return _load(folder, silent=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _load(folder: Path, silent: bool = False) -> Index:
    about = json.loads((folder / "about.json").read_text("utf-8"))
    columns = np.load(folder / "samples.npy")
    samples = {name: column.astype(kind) for (name, kind), column in zip(FIELDS.items(), columns, strict=True)}
    troubles = Troubles()
    troubles.merge(about)
    if not silent:
        troubles.tell()
    return Index(samples, np.memmap(folder / "texts", np.uint8, "r"), about["files"], troubles, folder)


def _fill(entries: Iterator[Entry], troubles: Troubles, texts: BinaryIO, what: str) -> Index:
    columns = {name: array("q") for name in FIELDS}
    files: dict[str, int] = {}
    labels: dict[str, int] = {}
    captioned = False
    count = Count(f"indexing {what}", 0)
    with console.status(count.what) as status, indexing(count):
        for number, entry in enumerate(entries):
            record = {"key": entry.key, "told": entry.told.model_dump(exclude_defaults=True)}
            place, label = entry.place, entry.told.label
            captioned = captioned or bool(entry.told.captions)
            if place.size == WHOLE:
                record["file"] = str(place.file)
            if place.column:
                record["column"] = place.column
            text = json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass")  # in names of files
            values = {
                "file": -1 if place.size == WHOLE else files.setdefault(str(place.file), len(files)),
                "offset": place.offset,
                "size": place.size,
                "opaque": entry.opaque,
                "label": -1 if label is None else labels.setdefault(label, len(labels)),
                "bucket": _bucket(entry.key),
                "text": texts.tell(),
                "text_size": len(text),
            }
            for name, value in values.items():
                columns[name].append(value)
            texts.write(text)
            count.done = number + 1
            if number % 1000 == 999:
                status.update(f"{count.what}: {count.done:,}")
    samples = {name: np.frombuffer(columns[name], np.int64).astype(kind) for name, kind in FIELDS.items()}
    texts.flush()
    mapped = np.memmap(texts, np.uint8, "r") if texts.tell() else np.empty(0, np.uint8)
    note_labels(labels, troubles)
    if len(labels) == 1 and not captioned:
        troubles.note(f"all samples have the one label {next(iter(labels))!r}: alone they teach nothing apart")
    return Index(samples, mapped, list(files), troubles)


def indexing(count: Count) -> AbstractContextManager[None]:
    """Lines of how many samples were found, where there is no terminal to show it on."""
    if console.is_terminal:
        return nullcontext()
    return log_periodically(write_line, lambda: f"{count.what}: {count.done:,} samples" if count.done else count.what)


def _bucket(key: str) -> int:
    """The split depends on the shard's name and the item's key alone: the same in every run over the same files."""
    return int.from_bytes(hashlib.sha256(key.encode(errors="replace")).digest()[:8]) % BUCKETS
