"""What shards tell of where their pictures come from, and whom to name: every author and licence."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from training.data.shards import text_or_location
from training.data.tar_members import group_by_key

Tally = Counter[tuple[str | None, ...]]  # of licence, source and attribution; None where it is not told

HEADER = "pictures\tlicence\tattribution\n"


def said_in(shard: Path) -> Iterator[dict[str, Any]]:
    """The JSON of each sample that has one; pictures are passed over. Raises ShardError."""
    for _, members in group_by_key(shard, text_or_location):
        content = members.get("json")
        said = _parsed(content) if isinstance(content, bytes) else None
        if isinstance(said, dict):
            yield said


def tally(shards: Iterable[Path]) -> Tally:
    """How many pictures there are of each licence, source and author, in one pass. Raises ShardError."""
    names = ("licence", "source", "attribution")
    return Counter(tuple(_line(said.get(name)) for name in names) for shard in shards for said in said_in(shard))


def write_attributions(pictures: Tally, output: Path) -> int:
    """Write one line for each distinct author and licence, tab-separated; returns how many pictures they cover."""
    found = Counter[str]()
    for (licence, _, author), count in pictures.items():
        if author:
            found[f"{licence}\t{author}"] += count
    lines = [f"{count}\t{line}\n" for line, count in sorted(found.items())]
    output.write_text(HEADER + "".join(lines), "utf-8")
    return found.total()


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:  # the loop skips such a sample, too, and says so
        return None


def _line(text: object) -> str | None:
    return " ".join(str(text).split()) if text else None
