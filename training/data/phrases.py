"""What may be said of a picture: the phrases that are true of it, and the ones that may be."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from model.suggestions import did_you_mean_path
from training.config import ConfigError
from training.data.files import MAX_LIST_BYTES, read_bounded
from training.data.shards import Sample

SYNONYMS = TypeAdapter(dict[str, list[str]])
WHOLE = "\0description"  # stands for the sentences of a description: no picture has it as a phrase

TEMPLATES = (
    "{}",
    "a {}",
    "a photo of a {}.",
    "a photo of the {}.",
    "a picture of a {}.",
    "an image of a {}.",
    "a close-up photo of a {}.",
    "one {}",
    "this is a {}.",
    "there is a {} here.",
)
# Photographs are asked for in the same words: of what only drawings have taught, too.
ART_TEMPLATES = (*TEMPLATES, "a drawing of a {}.", "an emoji of a {}.", "clip art of a {}.")

# A person's sentence says more than a label, a label more than its wider class or one of many keywords.
SHARES = {"caption": 6.0, "label": 6.0, "synonym": 2.0, "coarse": 1.5, "tags": 1.5}


@dataclass(frozen=True, slots=True)
class Phrases:
    """Phrases of one picture. `true` are positives wherever they turn up; `loose` are at least not negatives.

    Both are compared in lower case, as the text tower reads them.
    """

    true: frozenset[str]
    loose: frozenset[str]
    kinds: tuple[tuple[str, tuple[str, ...]], ...]  # (kind, its phrases), to draw from
    whole: str | None  # a description of several sentences
    transparent: bool  # art without a background


@dataclass(frozen=True, slots=True)
class Said:
    """What was drawn: the text that the tower reads, and the phrases in it, lower case.

    One phrase alone decides what else the text is true of; of a text with several, no picture with any is a negative.
    """

    text: str
    phrases: tuple[str, ...]


def load_synonyms(file: Path | None) -> dict[str, list[str]]:
    """Read {phrase: [phrases true of the same pictures]}; keys come back in lower case. Raises ConfigError."""
    if file is None:
        return {}
    try:
        table = SYNONYMS.validate_json(read_bounded(file, MAX_LIST_BYTES))
    except FileNotFoundError:
        raise ConfigError(f"data.synonyms: {file} is not there{did_you_mean_path(file)}") from None
    except (OSError, ValidationError) as error:
        raise ConfigError(f"{file} is not a table of synonyms, {{phrase: [phrase, ...]}}: {error}") from error
    return {phrase.lower(): others for phrase, others in table.items()}


def phrases_of(sample: Sample, synonyms: dict[str, list[str]], transparent: bool) -> Phrases | None:
    """Collect what is said of `sample`; None if that is nothing."""
    captions = tuple(sample.captions)
    label = (sample.label,) if sample.label else ()
    coarse = (sample.coarse,) if sample.coarse and sample.coarse != sample.label else ()
    others = tuple(dict.fromkeys(s for name in (*label, *coarse) for s in synonyms.get(name.lower(), [])))
    tags = tuple(dict.fromkeys(tag for tag in sample.tags if tag not in label))
    kinds = {"caption": captions, "label": label, "synonym": others, "coarse": coarse, "tags": tags}
    told = tuple((kind, said) for kind, said in kinds.items() if said)
    if not told:
        return None
    return Phrases(
        true=frozenset(phrase.lower() for phrase in (*captions, *label, *others, *coarse)),
        loose=frozenset(tag.lower() for tag in tags),
        kinds=told,
        whole=sample.description,
        transparent=transparent,
    )


def ask(labels: Sequence[str], rng: random.Random) -> dict[str, Said]:
    """The one wording that each label has in a batch of photographs where all labels are asked for, in lower case.

    In several wordings a frequent label would share its pictures' probability among several texts, where a rare one has
    its own alone: compared text by text afterwards, the rare one would be preferred.
    """
    return {label.lower(): Said(rng.choice(TEMPLATES).replace("{}", label), (label.lower(),)) for label in labels}


def draw_phrase(phrases: Phrases, rng: random.Random, asked: Mapping[str, Said]) -> Said:
    """Draw a label in a template, or as it is `asked` for; a caption as it is; or some of the tags."""
    kind, said = rng.choices(phrases.kinds, [SHARES[kind] for kind, _ in phrases.kinds])[0]
    if kind == "tags":
        return _joined(rng.sample(said, min(len(said), rng.randint(1, 3))))
    phrase = rng.choice(said)
    if kind == "caption":
        return Said(phrase, (phrase.lower(),))
    if phrase.lower() in asked and not phrases.transparent:
        return asked[phrase.lower()]
    template = rng.choice(ART_TEMPLATES if phrases.transparent else TEMPLATES)
    return Said(template.replace("{}", phrase), (phrase.lower(),))


def draw_whole(phrases: Phrases, rng: random.Random) -> Said:
    """Draw a long text, so that late positions are trained: sentences of the description, or all there is to say."""
    said = [phrase for _, group in phrases.kinds for phrase in group]
    if phrases.whole is None:
        return _joined(rng.sample(said, len(said)))
    sentences = re.split(r"(?<=[.!?]) ", phrases.whole)
    phrase = rng.choice(said)
    return Said(f"{phrase}. " + " ".join(sentences[rng.randrange(len(sentences)) :]), (phrase.lower(), WHOLE))


def _joined(said: list[str]) -> Said:
    return Said(", ".join(said), tuple(phrase.lower() for phrase in said))
