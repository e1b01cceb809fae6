"""Samples a caption for an image from its annotation, and says which phrases are true of it."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from model.suggestions import did_you_mean_path
from training.config import Captions, ConfigError
from training.config.captions import templates_of
from training.data.files import MAX_LIST_BYTES, read_bounded
from training.data.sample import Annotation

SYNONYMS = TypeAdapter(dict[str, list[str]])
DESCRIPTION = "\0description"  # stands for the sentences of a description: no image has it as a phrase


@dataclass(frozen=True, slots=True)
class Phrases:
    """The phrases of one image. `true` are positives wherever they turn up; `possible` are at least not negatives.

    Both are compared in lower case, as the text tower reads them.
    """

    true: frozenset[str]
    possible: frozenset[str]
    kinds: tuple[tuple[str, tuple[str, ...]], ...]  # (kind, its phrases), to sample from
    description: str | None  # of several sentences
    transparent: bool  # art without a background


@dataclass(frozen=True, slots=True)
class SampledCaption:
    """The text that the tower reads, and the phrases in it, lower case.

    One phrase alone decides what else the text is true of; of a text with several, no image with any is a negative.
    """

    text: str
    phrases: tuple[str, ...]


def load_synonyms(file: Path | None) -> dict[str, list[str]]:
    """Read {phrase: [phrases true of the same images]}; keys come back in lower case. Raises ConfigError."""
    if file is None:
        return {}
    try:
        table = SYNONYMS.validate_json(read_bounded(file, MAX_LIST_BYTES))
    except FileNotFoundError:
        raise ConfigError(f"data.synonyms: {file} is not there{did_you_mean_path(file)}") from None
    except (OSError, ValidationError) as error:
        raise ConfigError(f"{file} is not a table of synonyms, {{phrase: [phrase, ...]}}: {error}") from error
    return {phrase.lower(): others for phrase, others in table.items()}


class CaptionSampler:
    """Samples captions as a configuration says: templates, and how often each kind of text."""

    def __init__(self, config: Captions, synonyms: Mapping[str, Sequence[str]], long_share: float) -> None:
        """`synonyms` are by phrase in lower case; `long_share` is that of long captions."""
        self._templates = templates_of(config.templates)
        self._transparent_templates = templates_of(config.transparent_templates)
        self._weights: dict[str, float] = config.weights.model_dump()
        self._synonyms, self._long_share = synonyms, long_share

    def phrases(self, annotation: Annotation, transparent: bool) -> Phrases:
        """The phrases of an annotation that has text, those that its synonyms add among them."""
        captions = tuple(annotation.captions)
        label = (annotation.label,) if annotation.label else ()
        coarse = (annotation.coarse,) if annotation.coarse and annotation.coarse != annotation.label else ()
        synonyms = tuple(dict.fromkeys(s for name in (*label, *coarse) for s in self._synonyms.get(name.lower(), [])))
        tags = tuple(dict.fromkeys(tag for tag in annotation.tags if tag not in label))
        kinds = {"caption": captions, "label": label, "synonym": synonyms, "coarse": coarse, "tags": tags}
        return Phrases(
            true=frozenset(phrase.lower() for phrase in (*captions, *label, *synonyms, *coarse)),
            possible=frozenset(tag.lower() for tag in tags),
            kinds=tuple((kind, phrases) for kind, phrases in kinds.items() if phrases),
            description=annotation.description,
            transparent=transparent,
        )

    def word_labels(self, labels: Sequence[str], rng: random.Random) -> dict[str, SampledCaption]:
        """The one wording that each label has in a batch where all labels take part, by the label in lower case.

        In several wordings a frequent label would share its images' probability among several texts, where a rare one
        has its own alone: compared text by text afterwards, the rare one would be preferred.
        """
        return {
            label.lower(): SampledCaption(rng.choice(self._templates).replace("{}", label), (label.lower(),))
            for label in labels
        }

    def sample(self, phrases: Phrases, rng: random.Random, worded: Mapping[str, SampledCaption]) -> SampledCaption:
        """A long caption by its share, or a label in a template or as it is `worded`, a caption, or some of the tags.

        Labels of transparent images, which are drawings, always get a template of their own.
        """
        if rng.random() < self._long_share:
            return self._sample_long(phrases, rng)
        kind, group = rng.choices(phrases.kinds, [self._weights[kind] for kind, _ in phrases.kinds])[0]
        if kind == "tags":
            return _joined(rng.sample(group, min(len(group), rng.randint(1, 3))))
        phrase = rng.choice(group)
        if kind == "caption":
            return SampledCaption(phrase, (phrase.lower(),))
        if phrase.lower() in worded and not phrases.transparent:
            return worded[phrase.lower()]
        template = rng.choice(self._transparent_templates if phrases.transparent else self._templates)
        return SampledCaption(template.replace("{}", phrase), (phrase.lower(),))

    def _sample_long(self, phrases: Phrases, rng: random.Random) -> SampledCaption:
        """A long text, so that late positions are trained: sentences of the description, or all phrases joined."""
        group = [phrase for _, each in phrases.kinds for phrase in each]
        if phrases.description is None:
            return _joined(rng.sample(group, len(group)))
        sentences = re.split(r"(?<=[.!?]) ", phrases.description)
        phrase = rng.choice(group)
        text = f"{phrase}. " + " ".join(sentences[rng.randrange(len(sentences)) :])
        return SampledCaption(text, (phrase.lower(), DESCRIPTION))


def _joined(phrases: list[str]) -> SampledCaption:
    return SampledCaption(", ".join(phrases), tuple(phrase.lower() for phrase in phrases))
