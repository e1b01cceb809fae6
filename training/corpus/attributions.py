"""The list of whom to name: every author and licence of the pictures that a checkpoint learned from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from training.corpus.shards import read_shard

HEADER = "pictures\tlicence\tattribution\n"


def write_attributions(shards: Iterable[Path], output: Path) -> int:
    """Write one line for each distinct author and licence, tab-separated; returns how many pictures they cover."""
    found = Counter(
        (_line(said.get("licence")), _line(said["attribution"]))
        for shard in shards
        for _, _, said in read_shard(shard)
        if said.get("attribution")
    )
    lines = [f"{count}\t{licence}\t{author}\n" for (licence, author), count in sorted(found.items())]
    output.write_text(HEADER + "".join(lines), "utf-8")
    return found.total()


def _line(text: object) -> str:
    return " ".join(str(text).split())
