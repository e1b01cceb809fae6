"""The training set in memory, and the batch of any step as a pure function of seed and step.

Because a batch depends on nothing else, a resumed run sees exactly the samples it would have seen.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.config import Data
from training.data.phrases import Phrases, Said, draw_phrase, draw_whole, load_synonyms, phrases_of
from training.data.pictures import PictureStore
from training.data.shards import Sample, ShardError, find_shards, read_shards

# The split depends on the shard's name and the item's key alone: the same in every run over the same shards.
HOLDOUT_BUCKETS = 10_000


@dataclass(frozen=True)
class Group:
    """Items that are sampled together, and the cumulative probability of each."""

    weight: float
    items: npt.NDArray[np.int64]
    cumulative: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Batch:
    """Pictures of a step and the distinct texts said of them.

    `positive[i, t]`: text t is true of picture i. `ignored[i, t]`: it may be, so it is no negative either.
    """

    items: npt.NDArray[np.int64]  # [pictures]
    texts: list[str]
    drawn: Tensor  # [pictures] which of the texts was drawn for each
    counts: Tensor  # [texts] how often each was drawn
    positive: Tensor  # [pictures, texts] bool
    ignored: Tensor  # [pictures, texts] bool

    def without(self, missing: Tensor) -> Batch:
        """The batch where pictures that are `missing` [pictures] bool take no part; their texts stay as negatives."""
        counts = torch.bincount(self.drawn[~missing], minlength=len(self.texts))
        rows = missing.unsqueeze(1)
        return replace(self, counts=counts, positive=self.positive & ~rows, ignored=self.ignored | rows)


@dataclass(frozen=True)
class Pictures:
    """Pictures of some items, as `augment` takes them."""

    rgba: Tensor  # [items, side, side, 4] uint8, squeezed to a square
    aspects: Tensor  # [items] width / height before that
    transparent: Tensor  # [items] bool: a drawing without a background
    present: Tensor  # [items] bool: false where it could not be read, and the rest is made up


class TrainingSet:
    """Decoded pictures and their phrases; `holdout` are the samples kept for choosing the checkpoint."""

    def __init__(self, data: Data, base: Path, seed: int) -> None:
        self.seed = seed
        self.data = data
        synonyms = load_synonyms(base / data.synonyms if data.synonyms else None)
        _refuse_tests_in_training(data, base)
        samples, sources = _read(data, base)
        kept_out = [_bucket(sample.key) < data.holdout * HOLDOUT_BUCKETS for sample in samples]
        self.holdout = [(source, sample) for source, sample, out in zip(sources, samples, kept_out, strict=True) if out]
        rest = [i for i, out in enumerate(kept_out) if not out]
        self._store, readable = PictureStore.decode([samples[i] for i in rest], data.store_pixels)
        self._transparent = np.array([(picture[..., 3] < 255).any() for picture in self._store.pixels], bool)
        trained = [samples[rest[i]] for i in readable]
        self._keys = [sample.key for sample in trained]
        self.phrases: list[Phrases | None] = [
            phrases_of(sample, synonyms, bool(drawing))
            for sample, drawing in zip(trained, self._transparent, strict=True)
        ]
        self.groups = self._group(trained, [sources[rest[i]] for i in readable])

    def __len__(self) -> int:
        return len(self.phrases)

    def batch(self, step: int, size: int) -> Batch:
        """Draw the batch of `step`: `size` pictures, the distinct texts drawn for them, and which belong together."""
        numbers = np.random.default_rng([self.seed, step])
        words = random.Random(f"{self.seed}:{step}")
        items = self._draw_items(numbers, size)
        said = []
        for item in items:
            phrases = self._phrases(int(item))
            whole = words.random() < self.data.max_long_text
            said.append(draw_whole(phrases, words) if whole else draw_phrase(phrases, words))
        return self._match(items, said)

    def pictures(self, items: npt.NDArray[np.int64]) -> Pictures:
        """Those of some items of a batch, in their order."""
        return Pictures(
            torch.from_numpy(self._store.pixels[items]),
            torch.from_numpy(self._store.aspects[items]),
            torch.from_numpy(self._transparent[items]),
            torch.ones(len(items), dtype=torch.bool),
        )

    def keys(self, items: npt.NDArray[np.int64]) -> list[str]:
        """What the items are called, as SHARD/KEY."""
        return [self._keys[item] for item in items]

    def _phrases(self, item: int) -> Phrases:
        phrases = self.phrases[item]
        assert phrases is not None  # groups hold only items with phrases
        return phrases

    def _draw_items(self, numbers: np.random.Generator, size: int) -> npt.NDArray[np.int64]:
        weights = np.array([group.weight for group in self.groups])
        which = numbers.choice(len(self.groups), size=size, p=weights / weights.sum())
        at = numbers.random(size)
        drawn = np.empty(size, np.int64)
        for number, group in enumerate(self.groups):
            mine = which == number
            drawn[mine] = group.items[np.searchsorted(group.cumulative, at[mine], side="right")]
        return drawn

    def _match(self, items: npt.NDArray[np.int64], said: list[Said]) -> Batch:
        column = {drawn.text: number for number, drawn in enumerate({drawn.text: drawn for drawn in said}.values())}
        alone: dict[str, list[int]] = {}  # phrase: columns of the texts that say nothing else
        among: dict[str, list[int]] = {}  # phrase: columns of the texts that say more
        for text, drawn in {drawn.text: drawn for drawn in said}.items():
            for phrase in drawn.phrases:
                (alone if len(drawn.phrases) == 1 else among).setdefault(phrase, []).append(column[text])
        positive = torch.zeros(len(items), len(column), dtype=torch.bool)
        ignored = torch.zeros_like(positive)
        for row, item in enumerate(items):
            phrases = self._phrases(int(item))
            positive[row, [c for phrase in phrases.true for c in alone.get(phrase, ())]] = True
            ignored[row, [c for phrase in phrases.loose for c in alone.get(phrase, ())]] = True
            ignored[row, [c for phrase in phrases.true | phrases.loose for c in among.get(phrase, ())]] = True
        own = torch.tensor([column[drawn.text] for drawn in said])
        positive[torch.arange(len(items)), own] = True
        counts = torch.bincount(own, minlength=len(column))
        return Batch(items, list(column), own, counts, positive, ignored & ~positive)

    def _group(self, samples: list[Sample], sources: list[int]) -> list[Group]:
        groups = []
        for number, source in enumerate(self.data.train):
            mine = [i for i, s in enumerate(sources) if s == number and self.phrases[i] is not None]
            if not mine:
                raise ShardError(f"no usable sample in {', '.join(source.shards)}")
            names = [samples[i].label or "" for i in mine]
            frequency = Counter(names)
            # Items without a label are all different: they count as classes of one.
            weight = np.array([frequency[n] ** (source.class_power - 1) if n else 1.0 for n in names])
            groups.append(Group(source.weight, np.array(mine), np.cumsum(weight / weight.sum())))
            groups[-1].cumulative[-1] = 1.0
        return groups


def _refuse_tests_in_training(data: Data, base: Path) -> None:
    tests = {shard.resolve() for patterns in data.test.values() for shard in find_shards(patterns, base)}
    for source in data.train:
        for shard in find_shards(source.shards, base):
            if shard.resolve() in tests:
                raise ShardError(f"{shard} is among the tests too: nothing measured on it would mean anything")


def _read(data: Data, base: Path) -> tuple[list[Sample], list[int]]:
    samples, sources = [], []
    for number, source in enumerate(data.train):
        for sample in read_shards(find_shards(source.shards, base)):
            samples.append(sample)
            sources.append(number)
    return samples, sources


def _bucket(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % HOLDOUT_BUCKETS
