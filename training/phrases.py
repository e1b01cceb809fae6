"""What may be said of a picture: the phrases that are true of it, and the ones that may be."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

from training.shards import Sample

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
DRAWING_TEMPLATES = ("{}", "a {}", "a drawing of a {}.", "an emoji of a {}.", "clip art of a {}.", "a picture of a {}.")

# A person's sentence says more than a label, a label more than its wider class or one of many keywords.
SHARES = {"caption": 6.0, "label": 6.0, "synonym": 2.0, "coarse": 1.5, "tags": 1.5}


@dataclass(frozen=True, slots=True)
class Phrases:
    """Phrases of one picture. `true` are positives wherever they turn up; `loose` are at least not negatives."""

    true: frozenset[str]
    loose: frozenset[str]
    kinds: tuple[tuple[str, tuple[str, ...]], ...]  # (kind, its phrases), to draw from
    whole: str | None  # a description of several sentences
    drawing: bool


def load_synonyms(file: Path | None) -> dict[str, list[str]]:
    """Read {phrase: [phrases true of the same pictures]}."""
    if file is None:
        return {}
    table: dict[str, list[str]] = json.loads(file.read_text("utf-8"))
    return table


def phrases_of(sample: Sample, synonyms: dict[str, list[str]], drawing: bool) -> Phrases | None:
    """Collect what is said of `sample`; None if that is nothing."""
    captions = tuple(sample.captions)
    label = (sample.label,) if sample.label else ()
    coarse = (sample.coarse,) if sample.coarse and sample.coarse != sample.label else ()
    others = tuple(dict.fromkeys(s for name in (*label, *coarse) for s in synonyms.get(name, [])))
    tags = tuple(dict.fromkeys(tag for tag in sample.tags if tag and tag not in label))
    kinds = {"caption": captions, "label": label, "synonym": others, "coarse": coarse, "tags": tags}
    told = tuple((kind, said) for kind, said in kinds.items() if said)
    if not told:
        return None
    return Phrases(
        true=frozenset((*captions, *label, *others, *coarse)),
        loose=frozenset(tags),
        kinds=told,
        whole=sample.description,
        drawing=drawing,
    )


def draw_phrase(phrases: Phrases, rng: random.Random) -> tuple[str, str]:
    """Draw (phrase, text): the phrase decides what is a positive, the text is what the tower reads."""
    kind, said = rng.choices(phrases.kinds, [SHARES[kind] for kind, _ in phrases.kinds])[0]
    if kind == "tags":
        some = rng.sample(said, min(len(said), rng.randint(1, 3)))
        return (some[0], some[0]) if len(some) == 1 else (", ".join(some), ", ".join(some))
    phrase = rng.choice(said)
    if kind == "caption":
        return phrase, phrase
    template = rng.choice(DRAWING_TEMPLATES if phrases.drawing else TEMPLATES)
    return phrase, template.replace("{}", phrase)


def draw_whole(phrases: Phrases, rng: random.Random) -> tuple[str, str]:
    """Draw a long text, so that late positions are trained: sentences of the description, or all there is to say."""
    said = [phrase for _, group in phrases.kinds for phrase in group]
    if phrases.whole is None:
        text = ", ".join(rng.sample(said, len(said)))
    else:
        sentences = re.split(r"(?<=[.!?]) ", phrases.whole)
        text = f"{rng.choice(said)}. " + " ".join(sentences[rng.randrange(len(sentences)) :])
    return text, text
