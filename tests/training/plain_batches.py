"""The batch of a step drawn a second time, as simply as can be: image by image, phrase by phrase, pair by pair."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.config import Data
from training.config.captions import templates_of
from training.data.captions import load_synonyms
from training.data.dataset import TrainingSet
from training.data.sample import Annotation

Caption = tuple[str, tuple[str, ...]]  # a text, and the phrases in it in lower case
DESCRIPTION = "\0description"


@dataclass
class PlainBatch:
    items: list[int]
    texts: list[str]
    drawn: list[int]
    counts: list[int]
    positive: np.ndarray  # [images, texts] bool
    ignored: np.ndarray


@dataclass
class Phrases:
    true: frozenset[str]
    possible: frozenset[str]
    kinds: tuple[tuple[str, tuple[str, ...]], ...]
    description: str | None
    transparent: bool


class PlainBatches:
    """The batches of a training set."""

    def __init__(self, data: Data, base: Path, training_set: TrainingSet) -> None:
        self.data, self.set = data, training_set
        self.synonyms = load_synonyms(base / data.synonyms if data.synonyms else None)
        self.templates = templates_of(data.captions.templates)
        self.transparent_templates = templates_of(data.captions.transparent_templates)
        self.weights = data.captions.weights.model_dump()

    def source(self, item: int) -> int:
        return int(self.set._sources[item])

    def annotation(self, item: int) -> Annotation:
        return self.set._indexes[self.source(item)].annotation(int(self.set._numbers[item]))

    def batch(self, step: int, size: int) -> PlainBatch:
        items = self.set._sampler.sample(step, size, np.random.default_rng([self.set.seed, step])).tolist()
        rng = random.Random(f"{self.set.seed}:{step}")
        phrases = [self.phrases(self.annotation(item), bool(self.set._transparent[item])) for item in items]
        labels = self.labels()
        worded = {
            label.lower(): (rng.choice(self.templates).replace("{}", label), (label.lower(),)) for label, _ in labels
        }
        sampled = [self.sample(each, rng, worded) for each in phrases]
        distinct = {caption[0]: caption for caption in (*sampled, *worded.values())}
        texts = list(distinct)
        drawn = [texts.index(text) for text, _ in sampled]
        positive, ignored = np.zeros((2, size, len(texts)), bool)
        for row, known in enumerate(phrases):
            for column, (_, said) in enumerate(distinct.values()):
                if len(said) == 1:
                    positive[row, column] = said[0] in known.true
                    ignored[row, column] = said[0] in known.possible
                else:
                    ignored[row, column] = any(phrase in known.true | known.possible for phrase in said)
            positive[row, drawn[row]] = True
        ignored |= self.across_media(items, texts, drawn, labels, worded)
        return PlainBatch(
            items, texts, drawn, np.bincount(drawn, minlength=len(texts)).tolist(), positive, ignored & ~positive
        )

    def labels(self) -> list[tuple[str, str]]:
        """Each label of a source with `all_labels`, with the medium."""
        found = set()
        media = sorted({source.medium for source in self.data.train})
        for item in range(len(self.set)):
            source, label = self.data.train[self.source(item)], self.annotation(item).label
            if source.all_labels and label:
                found.add((label, media.index(source.medium)))
        return [(label, media[number]) for label, number in sorted(found)]

    def across_media(
        self,
        items: Sequence[int],
        texts: Sequence[str],
        drawn: Sequence[int],
        labels: Sequence[tuple[str, str]],
        worded: Mapping[str, Caption],
    ) -> np.ndarray:
        """Which pairs are of texts that were not said in the medium of the image."""
        media = [self.data.train[self.source(item)].medium for item in items]
        said = {(medium, texts[column]) for medium, column in zip(media, drawn, strict=True)}
        said |= {(medium, worded[label.lower()][0]) for label, medium in labels}
        if len({source.medium for source in self.data.train}) == 1:
            return np.zeros((len(items), len(texts)), bool)
        return np.array([[(medium, text) not in said for text in texts] for medium in media])

    def phrases(self, annotation: Annotation, transparent: bool) -> Phrases:
        captions = tuple(annotation.captions)
        label = (annotation.label,) if annotation.label else ()
        coarse = (annotation.coarse,) if annotation.coarse and annotation.coarse != annotation.label else ()
        synonyms = tuple(dict.fromkeys(s for name in (*label, *coarse) for s in self.synonyms.get(name.lower(), [])))
        tags = tuple(dict.fromkeys(tag for tag in annotation.tags if tag not in label))
        kinds = {"caption": captions, "label": label, "synonym": synonyms, "coarse": coarse, "tags": tags}
        return Phrases(
            true=frozenset(phrase.lower() for phrase in (*captions, *label, *synonyms, *coarse)),
            possible=frozenset(tag.lower() for tag in tags),
            kinds=tuple((kind, phrases) for kind, phrases in kinds.items() if phrases),
            description=annotation.description,
            transparent=transparent,
        )

    def sample(self, phrases: Phrases, rng: random.Random, worded: Mapping[str, Caption]) -> Caption:
        if rng.random() < self.data.max_long_text:
            return self.sample_long(phrases, rng)
        kind, group = rng.choices(phrases.kinds, [self.weights[kind] for kind, _ in phrases.kinds])[0]
        if kind == "tags":
            return joined(rng.sample(group, min(len(group), rng.randint(1, 3))))
        phrase = rng.choice(group)
        if kind == "caption":
            return phrase, (phrase.lower(),)
        if phrase.lower() in worded and not phrases.transparent:
            return worded[phrase.lower()]
        template = rng.choice(self.transparent_templates if phrases.transparent else self.templates)
        return template.replace("{}", phrase), (phrase.lower(),)

    def sample_long(self, phrases: Phrases, rng: random.Random) -> Caption:
        group = [phrase for _, each in phrases.kinds for phrase in each]
        if phrases.description is None:
            return joined(rng.sample(group, len(group)))
        sentences = re.split(r"(?<=[.!?]) ", phrases.description)
        phrase = rng.choice(group)
        text = f"{phrase}. " + " ".join(sentences[rng.randrange(len(sentences)) :])
        return text, (phrase.lower(), DESCRIPTION)


def joined(phrases: list[str]) -> Caption:
    return ", ".join(phrases), tuple(phrase.lower() for phrase in phrases)
