"""Samples a caption for each image of a batch from its phrases."""

from __future__ import annotations

import random
import re
from bisect import bisect
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from model.data.files import MAX_LIST_BYTES, read_bounded
from model.suggestions import did_you_mean_path
from training.config import Captions, ConfigError
from training.config.captions import templates_of
from training.data.caption_mix import CaptionMix, choose_caption
from training.data.phrase_table import Indices, PhraseTable
from training.data.phrases import CAPTION, DESCRIPTION, KIND_NAMES, TAG, phrase_digest

SYNONYMS = TypeAdapter(dict[str, list[str]])
SENTENCES = phrase_digest("\0description")  # stands for those of a description: no image has it as a phrase


# The text that the tower reads, and the digests of the phrases in it. One phrase alone decides what else the text is
# true of; of a text with several, no image with any is a negative. Of plain tuples the garbage collector keeps no list:
# with tens of thousands of objects a step it would search all of the process's again and again.
SampledCaption = tuple[str, tuple[int, ...]]


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

    def __init__(self, config: Captions, long_share: float) -> None:
        """`long_share` is that of long captions."""
        self._templates = templates_of(config.templates)
        self._transparent_templates = templates_of(config.transparent_templates)
        self._long_share = long_share
        self.mix = CaptionMix(config)
        weights = config.weights.model_dump()
        self._choices = [_kind_choice(present, weights) for present in range(2**DESCRIPTION)]

    def word_labels(self, labels: Sequence[tuple[str, int]], rng: random.Random) -> dict[int, SampledCaption]:
        """The one wording that each of `labels`, with its digest, has in a batch where all labels take part, by digest.

        In several wordings a frequent label would share its images' probability among several texts, where a rare one
        has its own alone: compared text by text afterwards, the rare one would be preferred.
        """
        return {digest: (rng.choice(self._templates).replace("{}", label), (digest,)) for label, digest in labels}

    def sample(
        self,
        table: PhraseTable,
        transparent: Sequence[bool],
        rng: random.Random,
        worded: Mapping[int, SampledCaption],
        progress: float = 0.0,
    ) -> list[SampledCaption]:
        """A long caption by its share, or a label in a template or as it is `worded`, a caption, or some of the tags.

        Labels of `transparent` images, which are drawings, always get a template of their own. `progress` is the share
        of all steps that are done, by which the sources of captions are mixed.
        """
        sources = None if table.caption_source is None else table.caption_source.tolist()
        weights = self.mix.weights(progress)
        # The order of what is drawn from `rng` is part of what a seed means: a run that goes on must draw the same.
        sampled = []
        present = _present_kinds(table, weights)
        counts, first = table.counts.ravel().tolist(), table.first.ravel().tolist()  # flat: lists in lists are slow
        for image, choice in enumerate(present.tolist()):
            row = image * len(KIND_NAMES)
            if rng.random() < self._long_share:
                places: Sequence[int] = range(first[row], first[row + DESCRIPTION])
                description = first[row + DESCRIPTION] if counts[row + DESCRIPTION] else None
                if sources is not None:
                    places = _weighted(places, counts[row], sources, weights, self.mix.drawn)
                sampled.append(_sample_long(table, places, description, rng))
                continue
            kinds, cumulative = self._choices[choice]
            kind = kinds[bisect(cumulative, rng.random() * cumulative[-1], 0, len(kinds) - 1)]
            start, count = first[row + kind], counts[row + kind]
            if kind == TAG:
                tags = rng.sample(range(start, start + count), min(count, rng.randint(1, 3)))
                sampled.append(_joined(table, tags))
                continue
            if kind == CAPTION and sources is not None:
                place = start + choose_caption(sources[start : start + count], weights, self.mix.drawn, rng)
            else:
                place = start + rng.randrange(count)
            digest = int(table.phrases["digest"][place])
            if kind == CAPTION:
                sampled.append((table.text(place), (digest,)))
            elif digest in worded and not transparent[image]:
                sampled.append(worded[digest])
            else:
                template = rng.choice(self._transparent_templates if transparent[image] else self._templates)
                sampled.append((template.replace("{}", table.text(place)), (digest,)))
        return sampled


def _present_kinds(table: PhraseTable, weights: Sequence[float]) -> Indices:
    """The kinds of phrases that each image has, as bits [images].

    Captions are none of them where the sources of all of an image's captions weigh 0, and it has something else.
    """
    present: Indices = (table.counts[:, :DESCRIPTION] > 0) @ (1 << np.arange(DESCRIPTION))
    if table.caption_source is not None:
        weighted = (np.array(weights)[table.caption_source] > 0) & (table.phrases["kind"] == CAPTION)
        drawn = np.bincount(table.image[weighted], minlength=len(present)) > 0
        present[~drawn & (present > 1 << CAPTION)] &= ~(1 << CAPTION)
    return present


def _kind_choice(present: int, weights: Mapping[str, float]) -> tuple[list[int], list[float]]:
    """The kinds whose bits are set, and their cumulative weights, as random.choices adds them up."""
    kinds = [kind for kind in range(DESCRIPTION) if present >> kind & 1]
    return kinds, list(accumulate(weights[KIND_NAMES[kind]] for kind in kinds))


def _weighted(
    places: Sequence[int], captions: int, sources: Sequence[int], weights: Sequence[float], drawn: Sequence[bool]
) -> Sequence[int]:
    """The phrases of an image at `places`, of which `captions` come first, without captions whose source weighs 0.

    Where nothing else is left, those of sources that are `drawn` at another time.
    """
    weighted = [place for place in places[:captions] if weights[sources[place]]]
    return [*weighted, *places[captions:]] or [place for place in places if drawn[sources[place]]]


def _sample_long(
    table: PhraseTable, places: Sequence[int], description: int | None, rng: random.Random
) -> SampledCaption:
    """A long text, so that late positions are trained: sentences of the description, or all phrases joined.

    The phrases of the image are at `places`, and its description, if it has one, at `description`.
    """
    if description is None:
        return _joined(table, rng.sample(places, len(places)))
    sentences = re.split(r"(?<=[.!?]) ", table.text(description))
    phrase = rng.choice(places)
    text = f"{table.text(phrase)}. " + " ".join(sentences[rng.randrange(len(sentences)) :])
    return text, (int(table.phrases["digest"][phrase]), SENTENCES)


def _joined(table: PhraseTable, places: Sequence[int]) -> SampledCaption:
    return (", ".join(map(table.text, places)), tuple(table.phrases["digest"][places].tolist()))
