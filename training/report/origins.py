"""Under which licences training data are, and where they come from, as far as the samples tell."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from training.config import TrainConfig
from training.corpus.attributions import Tally
from training.data.shards import find_shards

NOT_TOLD = "not told"
LONGEST = 90  # characters
EXAMPLES = 2


@dataclass(frozen=True)
class Origin:
    """Pictures under one licence; `sources` are the most frequent of `of_sources`."""

    licence: str
    pictures: int
    sources: list[str]
    of_sources: int


def shards_of(config: TrainConfig, base: Path) -> list[Path]:
    """All training shards. Raises ShardError."""
    return [shard for source in config.data.train for shard in find_shards(source.shards, base)]


def origins(pictures: Tally) -> list[Origin]:
    """By what each sample's JSON tells of `licence` and `source`, most pictures first."""
    found = defaultdict[str, Counter[str]](Counter)
    for (licence, source, _), count in pictures.items():
        # Without what is in brackets, which is often about the one picture.
        found[_told(licence).partition(" (")[0]][_told(source)] += count
    listed = [
        Origin(licence, sources.total(), [name for name, _ in sources.most_common(EXAMPLES)], len(sources))
        for licence, sources in found.items()
    ]
    return sorted(listed, key=lambda origin: -origin.pictures)


def _told(text: str | None) -> str:
    return text[:LONGEST] if text else NOT_TOLD
