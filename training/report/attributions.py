"""Where training images come from, by the JSON of their samples: licences, sources, and the authors to name."""

from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.data.tar_members import group_by_key
from training.config import TrainConfig
from training.data.shards import find_shards, text_or_location

AttributionCounts = Counter[tuple[str | None, ...]]  # of licence, source and attribution; None where not stated

NOT_STATED = "not told"
LONGEST = 90  # characters
EXAMPLES = 2
HEADER = "pictures\tlicence\tattribution\n"


@dataclass(frozen=True)
class Origin:
    """Images under one licence; `sources` are the most frequent of `sources_total`."""

    licence: str
    images: int
    sources: list[str]
    sources_total: int


def training_shards(config: TrainConfig, base: Path) -> list[Path]:
    """The shards that a configuration trains on. Raises ShardError."""
    return [shard for source in config.data.train for shard in find_shards(source.shards, base)]


def _read_records(shard: Path) -> Iterator[dict[str, Any]]:
    """The JSON of each sample that has one; images are not read. Raises ShardError."""
    for _, members in group_by_key(shard, text_or_location):
        content = members.get("json")
        record = _parse(content) if isinstance(content, bytes) else None
        if isinstance(record, dict):
            yield record


def count_attributions(shards: Iterable[Path]) -> AttributionCounts:
    """Count the images of each licence, source and author, in one pass. Raises ShardError."""
    names = ("licence", "source", "attribution")
    return Counter(
        tuple(_line(record.get(name)) for name in names) for shard in shards for record in _read_records(shard)
    )


def write_attributions(counts: AttributionCounts, output: Path) -> int:
    """Write one line for each distinct author and licence, tab-separated; returns how many images they cover.

    Compressed where the name ends with .gz: of thousands of photographs it is a large part of what a bundle adds.
    """
    found = Counter[str]()
    for (licence, _, author), count in counts.items():
        if author:
            found[f"{licence}\t{author}"] += count
    lines = [f"{count}\t{line}\n" for line, count in sorted(found.items())]
    content = (HEADER + "".join(lines)).encode()
    output.write_bytes(gzip.compress(content, mtime=0) if output.suffix == ".gz" else content)
    return found.total()


def summarize_origins(counts: AttributionCounts) -> list[Origin]:
    """One Origin for each licence, most images first."""
    found = defaultdict[str, Counter[str]](Counter)
    for (licence, source, _), count in counts.items():
        # Without what is in brackets, which is often about the one picture.
        found[_shorten(licence).partition(" (")[0]][_shorten(source)] += count
    listed = [
        Origin(licence, sources.total(), [name for name, _ in sources.most_common(EXAMPLES)], len(sources))
        for licence, sources in found.items()
    ]
    return sorted(listed, key=lambda origin: -origin.images)


def _parse(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:  # the loop skips such a sample, too, and says so
        return None


def _line(text: object) -> str | None:
    return " ".join(str(text).split()) if text else None


def _shorten(text: str | None) -> str:
    return text[:LONGEST] if text else NOT_STATED
