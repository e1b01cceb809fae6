"""The training set, and the batch of any step as a pure function of seed and step.

Because a batch depends on nothing else, a resumed run sees exactly the samples it would have seen.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from model.images.preprocessing import ImageError
from training.config import ConfigError, Data
from training.data.batch import Batch, Pictures
from training.data.entry import ROW, Entry
from training.data.excluded import load_excluded
from training.data.index import Index, index_cache, open_index
from training.data.matching import keep_media_apart, match
from training.data.phrases import Phrases, ask, draw_phrase, draw_whole, load_synonyms, phrases_of
from training.data.pictures import OnDisk, Squeezed, Store, load_all
from training.data.sampling import Group, Sampler, group_of
from training.data.shards import Sample, ShardError, find_shards, sample_of
from training.data.sources import PictureReader
from training.data.stratified import draw_per_label
from training.data.transparency import transparent_samples
from training.data.troubles import Troubles, reason_of

log = logging.getLogger(__name__)

__all__ = ["Batch", "Pictures", "TrainingSet"]

Numbers = npt.NDArray[np.int64]
HELD_OUT = 5_000  # of a source: a standard error of 0.7 points at most; they stay in memory


class TrainingSet:
    """Pictures and their phrases; `holdout` are the samples kept for choosing the checkpoint.

    Raises ShardError and ConfigError.
    """

    def __init__(self, data: Data, base: Path, seed: int) -> None:
        self.data, self.seed = data, seed
        self.troubles = Troubles()
        self._broken: set[int] = set()
        self._synonyms = load_synonyms(base / data.synonyms if data.synonyms else None)
        self._reader = PictureReader()
        refuse_tests_in_training(data, base)
        self._indexes = [open_index(source, base, index_cache(data)) for source in data.train]
        # Which sample an item is: its source, and its number in the index of that.
        sources = np.repeat(np.arange(len(self._indexes), dtype=np.int16), [len(index) for index in self._indexes])
        numbers = np.concatenate([np.arange(len(index)) for index in self._indexes])
        wanted = self._wanted(load_excluded(base / data.exclude if data.exclude else None))
        out = self._held_out(wanted)
        rest = wanted & ~out
        self.holdout = HeldOut(self, sources[out], numbers[out])
        self._sources, self._numbers = sources[rest], numbers[rest]
        if data.pictures == "disk":
            self._store: Store = OnDisk(self._squeezed, data.store_pixels)
            self._transparent = np.concatenate([self._transparent_samples(index) for index in self._indexes])[rest]
        else:
            self._store, self._transparent, readable = load_all(len(self), self._squeezed, data.store_pixels)
            self._sources, self._numbers = self._sources[readable], self._numbers[readable]
            self.troubles.tell()
        self._sampler = Sampler([self._group(number) for number in range(len(self._indexes))], seed)
        _, self._media = np.unique([source.medium for source in data.train], return_inverse=True)
        self._labels_asked = self._find_labels_asked()

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def skipped(self) -> dict[str, int]:
        """Samples that are left out, by reason: those that were found when reading, and those whose pictures broke."""
        found = Troubles()
        for record in (*(index.skipped.as_record() for index in self._indexes), self.troubles.as_record()):
            found.merge(record)
        return dict(found.counts)

    def batch(self, step: int, size: int) -> Batch:
        """Draw the batch of `step`: `size` pictures, the distinct texts drawn for them, and which belong together."""
        numbers = np.random.default_rng([self.seed, step])
        words = random.Random(f"{self.seed}:{step}")
        items = self._sampler.draw(step, size, numbers)
        phrases = [self.phrases(int(item)) for item in items]
        said, asked = [], ask([label for label, _ in self._labels_asked], words)
        for known in phrases:
            whole = words.random() < self.data.max_long_text
            said.append(draw_whole(known, words) if whole else draw_phrase(known, words, asked))
        batch = match(items, phrases, said, list(asked.values()))
        in_media = [(asked[label.lower()].text, medium) for label, medium in self._labels_asked]
        return keep_media_apart(batch, self._media[self._sources[items]], in_media)

    def pictures(self, items: Numbers) -> Pictures:
        """Those of some items of a batch, in their order."""
        pixels, aspects, present = self._store.take(items)
        return Pictures(
            torch.from_numpy(pixels),
            torch.from_numpy(aspects),
            torch.from_numpy(self._transparent[items]),
            torch.from_numpy(present),
        )

    def keys(self, items: Numbers) -> list[str]:
        """What the items are called, as SHARD/KEY."""
        return [self._entry(int(item)).key for item in items]

    def phrases(self, item: int) -> Phrases:
        """What may be said of an item."""
        told = self._indexes[int(self._sources[item])].told(int(self._numbers[item]))
        phrases = phrases_of(sample_of("", b"", told), self._synonyms, bool(self._transparent[item]))
        assert phrases is not None  # the index has only samples of which something is said
        return phrases

    def sample(self, source: int, number: int) -> Sample | None:
        """A sample of an index with its picture; None if that cannot be read."""
        entry = self._indexes[source].entry(number)
        try:
            return sample_of(entry.key, self._reader.read(entry.place), entry.told)
        except OSError as error:
            self.troubles.add(entry.key, "unreadable file", error)
            return None

    def _wanted(self, excluded: frozenset[str]) -> npt.NDArray[np.bool_]:
        if not excluded:  # keys lie in the text of a sample: to read all takes seconds a million
            return np.ones(sum(len(index) for index in self._indexes), bool)
        keys = [index.entry(number).key for index in self._indexes for number in range(len(index))]
        if missing := sorted(excluded.difference(keys)):
            told = "data.exclude: %d of %d keys are in no source, such as %s"
            log.warning(told, len(missing), len(excluded), missing[0])
        return np.array([key not in excluded for key in keys])

    def _held_out(self, wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which samples choose the checkpoint: a share of each label of each source, of a source HELD_OUT at most."""
        parts, first = [], 0
        for index in self._indexes:
            mine = wanted[first : first + len(index)]
            first += len(index)
            labels, hashes = (index.samples[name][mine].astype(np.int64) for name in ("label", "bucket"))
            share = min(self.data.holdout, HELD_OUT / max(1, len(labels)))
            drawn = np.zeros(len(index), bool)
            drawn[mine] = draw_per_label(labels, hashes, share)
            parts.append(drawn)
        return np.concatenate(parts)

    def _find_labels_asked(self) -> list[tuple[str, int]]:
        """Labels of the sources that want all of theirs, each with its medium."""
        found = set()
        for number, (source, index) in enumerate(zip(self.data.train, self._indexes, strict=True)):
            if source.all_labels:
                mine = self._numbers[self._sources == number]
                _, firsts = np.unique(index.samples["label"][mine], return_index=True)
                labels = {index.entry(int(first)).told.label for first in mine[firsts]}
                if not any(labels):
                    log.warning("data.train.%d.all_labels asks for nothing: no picture there has a label", number)
                found |= {(label, int(self._media[number])) for label in labels if label}
        return sorted(found)

    def _entry(self, item: int) -> Entry:
        return self._indexes[int(self._sources[item])].entry(int(self._numbers[item]))

    def _squeezed(self, item: int) -> Squeezed | None:
        entry = self._entry(item)
        try:
            return Squeezed(self._reader.read(entry.place), self.data.store_pixels, self.data.max_pixels)
        except (ImageError, OSError) as error:
            if item not in self._broken:  # told once, however often it is drawn
                self._broken.add(item)
                self.troubles.add(entry.key, *reason_of(error))
            return None

    def _transparent_samples(self, index: Index) -> npt.NDArray[np.bool_]:
        if (index.samples["size"] == ROW).any():
            raise ConfigError(
                "data.pictures: pictures inside Parquet files cannot be read one by one. Write shards of them, "
                "`python -m training prepare TABLE --to FOLDER`, or set it to memory"
            )
        return transparent_samples(index, self._reader, self.data.max_pixels)

    def _group(self, number: int) -> Group:
        source, mine = self.data.train[number], np.flatnonzero(self._sources == number)
        if not len(mine):
            raise ShardError(f"no usable sample in {', '.join(source.where)}: skipped {self.troubles}")
        return group_of(source, mine, self._indexes[number].samples["label"][self._numbers[mine]])


class HeldOut:
    """The samples kept for choosing the checkpoint; read when they are asked for."""

    def __init__(self, data: TrainingSet, sources: npt.NDArray[np.int16], numbers: Numbers) -> None:
        self._data, self._sources, self._numbers = data, sources, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[tuple[int, Sample]]:
        for source, number in zip(self._sources, self._numbers, strict=True):
            sample = self._data.sample(int(source), int(number))
            if sample is not None:
                yield int(source), sample


def refuse_tests_in_training(data: Data, base: Path) -> None:
    """Raise ShardError for a shard that is learned from and measured on."""
    tests = {shard.resolve() for patterns in data.test.values() for shard in find_shards(patterns, base)}
    for source in data.train:
        for shard in find_shards(source.shards, base):
            if shard.resolve() in tests:
                raise ShardError(f"{shard} is among the tests too: nothing measured on it would mean anything")
