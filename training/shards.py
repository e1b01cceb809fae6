"""WebDataset shards: tar files in which members that share a key are one sample: `KEY.jpg`, `KEY.json`."""

from __future__ import annotations

import json
import logging
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

PICTURE_SUFFIXES = ("jpg", "jpeg", "png", "webp")


class ShardError(ValueError):
    """Shards that cannot be read; the message names the file or the pattern."""


@dataclass(slots=True)
class Sample:
    """One picture and what is said of it."""

    key: str
    picture: bytes
    label: str | None = None
    captions: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    coarse: str | None = None
    description: str | None = None


def find_shards(patterns: Iterable[str], base: Path) -> list[Path]:
    """Expand glob patterns relative to `base`. Raises ShardError for a pattern that matches nothing."""
    found: list[Path] = []
    for pattern in patterns:
        root, rest = (Path("/"), pattern[1:]) if pattern.startswith("/") else (base, pattern)
        matches = sorted(root.glob(rest))
        if not matches:
            raise ShardError(f"no shard matches {pattern!r} (looked from {base})")
        found.extend(matches)
    return found


def read_shards(shards: Iterable[Path]) -> Iterator[Sample]:
    """All complete samples, in order. A sample without picture or text is skipped and counted in a warning."""
    for shard in shards:
        incomplete = 0
        for key, members in _grouped(shard):
            sample = _sample(f"{shard.name}/{key}", members)
            if sample is None:
                incomplete += 1
            else:
                yield sample
        if incomplete:
            log.warning("%s: skipped %d samples without a picture or a readable text", shard, incomplete)


def _grouped(shard: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    key, members = "", dict[str, bytes]()
    try:
        with tarfile.open(shard) as archive:
            for member in archive:
                if not member.isfile():
                    continue
                stem, _, suffix = member.name.partition(".")
                if stem != key and members:
                    yield key, members
                    members = {}
                key = stem
                stream = archive.extractfile(member)
                assert stream is not None  # isfile() was true
                members[suffix.lower()] = stream.read()
    except (OSError, tarfile.TarError, EOFError) as error:
        raise ShardError(f"{shard} cannot be read: {error}") from error
    if members:
        yield key, members


def _sample(key: str, members: dict[str, bytes]) -> Sample | None:
    picture = next((members[s] for s in PICTURE_SUFFIXES if s in members), None)
    if picture is None:
        return None
    try:
        if "json" in members:
            return _from_json(key, picture, json.loads(members["json"]))
        if "txt" in members:
            return Sample(key, picture, captions=[members["txt"].decode("utf-8").strip()])
    except (UnicodeDecodeError, json.JSONDecodeError, AttributeError):
        return None
    return None


def _from_json(key: str, picture: bytes, said: dict[str, Any]) -> Sample:
    return Sample(
        key,
        picture,
        label=said.get("label"),
        captions=[caption for caption in said.get("captions") or [] if caption.strip()],
        tags=list(said.get("tags") or []),
        coarse=said.get("coarse"),
        description=said.get("description"),
    )
