"""Pairs of texts that say the same: captions of one picture, names of one class, two templates."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from model.data.skipped_samples import SkippedSamples
from model.zeroshot import fill
from training.evaluation.datasets import Split

MAX_PAIRS = 10_000  # that are measured; more are drawn from
FEW = 20  # pairs below which a mean says little
NO_PAIRS = (
    "there are no paraphrases: give pairs by --paraphrases FILE, several names of a class by --class-names or the "
    "data.synonyms of --config, two of --template, or pictures with several captions"
)


class Pair(NamedTuple):
    """Two texts, and what both are said of: pairs of one origin are no independent measurements."""

    query: str
    paraphrase: str
    origin: str


@dataclass(frozen=True)
class PairSample:
    """At most MAX_PAIRS of `total` pairs, and what of a file was left out."""

    pairs: Sequence[Pair]
    total: int
    skipped: SkippedSamples = field(default_factory=SkippedSamples)

    def warning(self, name: str) -> str:
        """What of a measurement called `name` is to be known, or an empty string."""
        if self.total > len(self.pairs):
            return f"{name}: {len(self.pairs):,} of {self.total:,} pairs are measured, drawn by chance"
        count = len(self.pairs)
        return f"{name}: only {count} pair{'s' * (count != 1)}, of which no mean says much" if count < FEW else ""


def sample_pairs(pairs: Iterable[Pair], skipped: SkippedSamples | None = None, most: int = MAX_PAIRS) -> PairSample:
    """All of them, or `most` of them, each as likely and always the same ones (Vitter 1985, algorithm R)."""
    kept: list[Pair] = []
    total, rng = 0, random.Random(0)
    for total, pair in enumerate(pairs, start=1):
        place = total - 1 if total <= most else rng.randrange(total)
        if place == len(kept):
            kept.append(pair)
        elif place < most:
            kept[place] = pair
    return PairSample(kept, total, skipped or SkippedSamples())


def pairs_of_split(
    split: Split, names: Sequence[Sequence[str]], templates: Sequence[str], synonyms: Mapping[str, Sequence[str]]
) -> dict[str, PairSample]:
    """Those of captions, or else of the `names` of each class and of `templates`, by what is added to a set's name."""
    if split.captions:
        found = {"": pairs_of_captions(split.captions)}
    else:
        of_names = pairs_of_names(split.classes, names, synonyms, templates[0])
        found = {" (synonyms)": of_names, " (templates)": pairs_of_templates(split.classes, names, templates)}
    samples = {what: sample_pairs(pairs) for what, pairs in found.items()}
    return {what: sample for what, sample in samples.items() if sample.pairs}


def pairs_of_captions(captions: Sequence[Sequence[str]]) -> Iterator[Pair]:
    """Of each picture, its first caption with each other one."""
    for number, own in enumerate(captions):
        yield from _with_the_first(own, str(number))


def pairs_of_names(
    classes: Sequence[str], names: Sequence[Sequence[str]], synonyms: Mapping[str, Sequence[str]], template: str
) -> Iterator[Pair]:
    """Of each class, its first name with each other one and each synonym of the class, in a template.

    `synonyms` are by class in lower case.
    """
    for label, own in zip(classes, names, strict=True):
        texts = [fill(template, name) for name in (*own, *synonyms.get(label.lower(), ()))]
        yield from _with_the_first(texts, label)


def pairs_of_templates(
    classes: Sequence[str], names: Sequence[Sequence[str]], templates: Sequence[str]
) -> Iterator[Pair]:
    """Of each class, its first name in the first template and in each other one."""
    for label, own in zip(classes, names, strict=True):
        yield from _with_the_first([fill(template, name) for template in templates for name in own[:1]], label)


def _with_the_first(texts: Iterable[str], origin: str) -> Iterator[Pair]:
    distinct = list(dict.fromkeys(texts))
    for other in distinct[1:]:
        yield Pair(distinct[0], other, origin)
