"""The training set, and the batch of any step as a pure function of seed and step.

Because a batch depends on nothing else, a resumed run sees exactly the samples it would have seen.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from model.data.skipped_samples import SkippedSamples
from training.config import ConfigError, Data
from training.data.captions import CaptionSampler
from training.data.category_batches import CategoryBatches
from training.data.collate import Batch, Images
from training.data.decoding_pool import Encoded
from training.data.image_reader import find_transparent
from training.data.images import DiskStore, ImageStore, LocalProcesses, decode_all
from training.data.index import SampleIndex
from training.data.item_categories import ItemCategories, Ragged, log_without_category
from training.data.matches import match
from training.data.negatives import Negatives
from training.data.opened_sources import OpenedSources
from training.data.phrase_table import PhraseColumns
from training.data.sample import PARQUET_ROW, Sample, SampleRecord
from training.data.sampler import BatchSampler, SamplingGroup, sampling_group
from training.data.shards import ShardError, find_shards
from training.data.stored_vectors import StoredVectors, Vectors, read_vectors
from training.data.teacher_vectors import check_stored, collect_vectors, drawn_rows
from training.progress import write_line

Indices = npt.NDArray[np.int64]


class TrainingSet:
    """The samples of all sources by number; `holdout` are those kept for choosing the checkpoint.

    Raises ShardError and ConfigError.
    """

    def __init__(
        self,
        data: Data,
        base: Path,
        seed: int,
        processes: LocalProcesses | None = None,
        steps: int | None = None,
        categories: ItemCategories | None = None,
        stored_vectors: bool = False,
    ) -> None:
        """Paths in `data` are relative to `base`; images in memory are held once for all `processes` on a machine.

        `steps` are those of the run, over which the mix of captions changes; None: it stays as at the start. With
        `categories`, batches have these for texts, and samples without any take no part. With `stored_vectors` every
        image and every caption must have one, and batches say which it is.
        """
        self.data, self.seed, self._steps = data, seed, steps
        self._stored_vectors, self._without_source = stored_vectors, 0
        self.skipped = SkippedSamples()  # those whose images turned out to be broken
        self._broken: set[int] = set()
        self._lock = threading.Lock()
        self._captions = CaptionSampler(data.captions, data.max_long_text)
        refuse_tests_in_training(data, base)
        opened = OpenedSources(data, base) if categories is None else categories.opened
        self._indexes, self.filtered, self._reader = opened.indexes, opened.filtered, opened.reader
        self._phrases = PhraseColumns(self._indexes, opened.synonyms, self._mixed_sources(), opened.kept_phrases)
        sources, numbers, included, held_out = opened.sources, opened.numbers, opened.included, opened.held_out
        if data.captions.mix and categories is None:
            drawn = self._of_the_mix(included, opened.kept_phrases)
            included, held_out = included & drawn, held_out & drawn
        kept = included & ~held_out
        self._without_category = 0
        if categories is not None:
            named = categories.of_samples.counts > 0
            self._without_category = log_without_category(self._indexes, included, named, len(categories.texts))
            kept, held_out = kept & named, held_out & named
        of_held_out = None if categories is None else categories.of_samples.take(np.flatnonzero(held_out))
        self.holdout = HeldOut(self, sources[held_out], numbers[held_out], of_held_out)
        self._sources, self._numbers = sources[kept], numbers[kept]
        self._vector_size = 0  # dimensions of the first that were read
        if stored_vectors:
            check_stored(self._indexes, self._sources, self._numbers, opened.kept_phrases)
        if data.pictures == "disk":
            self._store: ImageStore = DiskStore(self, data.store_pixels, data.max_pixels)
            self._transparent = np.concatenate([self._find_transparent(index) for index in self._indexes])[kept]
        else:
            self._store, self._transparent, readable = decode_all(
                len(self), self, data.store_pixels, data.max_pixels, processes
            )
            self._sources, self._numbers = self._sources[readable], self._numbers[readable]
            kept[np.delete(np.flatnonzero(kept), readable)] = False
            self.skipped.log_summary(write_line)
        self._sampler = BatchSampler([self._sampling_group(number) for number in range(len(self._indexes))], seed)
        self._negatives = Negatives(data.train, self._indexes, self._sources, self._numbers)
        self._categories: CategoryBatches | None = None
        if categories is not None:
            self._categories = CategoryBatches(categories, np.flatnonzero(kept), self._negatives)

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def skip_counts(self) -> dict[str, int]:
        """Samples left out, by reason: those found when the sources were scanned, and those whose images are broken."""
        found = SkippedSamples()
        for record in (*(index.skipped.as_record() for index in self._indexes), self.skipped.as_record()):
            found.merge(record)
        without = {"no category": self._without_category, "no caption that the mix draws": self._without_source}
        return {**found.counts, **{reason: count for reason, count in without.items() if count}}

    def batch(self, step: int, size: int) -> Batch:
        """The batch of `step`: `size` images, the distinct texts sampled for them, and which belong together.

        Of categories the texts are all of them, in every batch.
        """
        items = self._sampler.sample(step, size, np.random.default_rng([self.seed, step]))
        if self._categories is not None:
            return self._categories.batch(items)
        rng = random.Random(f"{self.seed}:{step}")
        table = self._phrases.look_up(self._sources[items], self._numbers[items])
        worded = self._negatives.word_labels(self._captions, rng)
        progress = step / self._steps if self._steps else 0.0
        sampled = self._captions.sample(table, self._transparent[items].tolist(), rng, worded, progress)
        distinct = dict((*sampled, *worded.values()))
        columns = {text: number for number, text in enumerate(distinct)}
        drawn = np.fromiter((columns[text] for text, _ in sampled), np.int64, size)
        return Batch(
            items,
            list(distinct),
            torch.from_numpy(drawn),
            torch.from_numpy(np.bincount(drawn, minlength=len(distinct))),
            match(table, list(distinct.values()), drawn),
            self._negatives.media(items, drawn, columns, worded),
            drawn_rows(table, sampled) if self._stored_vectors else None,
        )

    def teacher_vectors(self, batch: Batch, images: slice, texts: slice) -> tuple[Vectors, Vectors]:
        """As `BatchSource.teacher_vectors`."""
        return collect_vectors(batch, self._read_vectors, images, texts)

    def images(self, items: Indices) -> Images:
        """The decoded images of some items of a batch, in their order."""
        pixels, aspects, present = self._store.get(items)
        return Images(
            torch.from_numpy(pixels),
            torch.from_numpy(aspects),
            torch.from_numpy(self._transparent[items]),
            torch.from_numpy(present),
        )

    def encoded(self, item: int) -> Encoded:
        """Where the encoded image of an item is; its bytes, or why there are none, where only a reader finds them."""
        location = self._indexes[int(self._sources[item])].location(int(self._numbers[item]))
        if location.size != PARQUET_ROW:
            return location
        try:
            return self._reader.read(location)
        except OSError as error:
            return error

    def report_broken(self, item: int, reason: str, detail: str) -> None:
        """Count an image that cannot be decoded, once, however often it is drawn."""
        with self._lock:
            new = item not in self._broken
            self._broken.add(item)
        if new:
            self.skipped.add(self._record(item).key, reason, detail)

    def close(self) -> None:
        """End what decodes images."""
        self._store.close()

    def keys(self, items: Indices) -> list[str]:
        """The keys of items, as SHARD/KEY."""
        return [self._record(int(item)).key for item in items]

    def sample(self, source: int, number: int) -> Sample | None:
        """A sample of an index with its image; None if that cannot be read."""
        record = self._indexes[source].record(number)
        if self.filtered:
            record = self.filtered.without(self._indexes[source], source, number, record)
        try:
            return self._reader.sample(record)
        except OSError as error:
            self.skipped.add(record.key, "unreadable file", error)
            return None

    def _read_vectors(self, item: int) -> StoredVectors:
        """The stored vectors of an item. Raises OSError that says what to do."""
        location = self._indexes[int(self._sources[item])].vectors(int(self._numbers[item]))
        assert location is not None  # as `check_stored` found
        try:
            vectors = read_vectors(location)
            self._vector_size = self._vector_size or len(vectors.image)
            if len(vectors.image) != self._vector_size:
                raise OSError(
                    f"stored vectors of {len(vectors.image)} dimensions, where others have {self._vector_size}"
                )
            return vectors
        except OSError as error:
            key = self._record(item).key
            raise OSError(f"{error}. Leave {key} out by data.exclude, or mend it, and begin anew") from error

    def _record(self, item: int) -> SampleRecord:
        return self._indexes[int(self._sources[item])].record(int(self._numbers[item]))

    def _mixed_sources(self) -> Indices | None:
        """The sources of captions by field, where they are mixed; what the mix never draws is told."""
        if not self.data.captions.mix:
            return None
        mix = self._captions.mix
        for field, count in mix.never_drawn(self._indexes).items():
            write_line(f"data.captions.mix gives no weight to captions from `{field}`: {count:,} are not drawn")
        return mix.source_numbers(self._indexes)

    def _of_the_mix(
        self, included: npt.NDArray[np.bool_], kept: list[npt.NDArray[np.bool_]] | None
    ) -> npt.NDArray[np.bool_]:
        """The samples that have something else to say than captions the mix never draws; how many have not is told."""
        usable = self._captions.mix.usable(self._indexes, kept)
        self._without_source = int((included & ~usable).sum())
        if self._without_source:
            write_line(f"{self._without_source:,} pictures have only such captions, and are left out")
        return usable

    def _find_transparent(self, index: SampleIndex) -> npt.NDArray[np.bool_]:
        if (index.samples["size"] == PARQUET_ROW).any():
            raise ConfigError(
                "data.pictures: pictures inside Parquet files cannot be read one by one. Write shards of them, "
                "`python -m training prepare TABLE --to FOLDER`, or set it to memory"
            )
        return find_transparent(index, self._reader, self.data.max_pixels)

    def _sampling_group(self, number: int) -> SamplingGroup:
        source, mine = self.data.train[number], np.flatnonzero(self._sources == number)
        if not len(mine):
            raise ShardError(f"no usable sample in {', '.join(source.where)}: skipped {self.skipped}")
        return sampling_group(source, mine, self._indexes[number].samples["label"][self._numbers[mine]])


class HeldOut:
    """The samples kept for choosing the checkpoint, each with the number of its source; read when they are iterated."""

    def __init__(
        self, data: TrainingSet, sources: npt.NDArray[np.int16], numbers: Indices, categories: Ragged | None = None
    ) -> None:
        self._data, self._sources, self._numbers, self._categories = data, sources, numbers, categories

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[tuple[int, Sample]]:
        return ((source, sample) for _, source, sample in self._read())

    def with_categories(self) -> Iterator[tuple[int, Sample, Indices]]:
        """Each with the numbers of its categories, where a training set has them."""
        assert self._categories is not None
        for place, source, sample in self._read():
            yield source, sample, self._categories[place]

    def _read(self) -> Iterator[tuple[int, int, Sample]]:
        for place, (source, number) in enumerate(zip(self._sources, self._numbers, strict=True)):
            sample = self._data.sample(int(source), int(number))
            if sample is not None:
                yield place, int(source), sample


def refuse_tests_in_training(data: Data, base: Path) -> None:
    """Raise ShardError for a shard that is learned from and measured on."""
    tests = {shard.resolve() for patterns in data.test.values() for shard in find_shards(patterns, base)}
    for source in data.train:
        for shard in find_shards(source.shards, base):
            if shard.resolve() in tests:
                raise ShardError(f"{shard} is among the tests too: nothing measured on it would mean anything")
