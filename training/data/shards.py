"""WebDataset shards: tar files in which members that share a key are one sample: `KEY.jpg`, `KEY.json`."""

from __future__ import annotations

import logging
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

log = logging.getLogger(__name__)

PICTURE_SUFFIXES = ("jpg", "jpeg", "png", "webp")


class ShardError(ValueError):
    """Shards that cannot be read; the message names the file or the pattern."""


Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Told(BaseModel):
    """KEY.json: all of it optional, other fields allowed, wrong types not."""

    model_config = ConfigDict(extra="ignore", strict=True)

    label: Words | None = None
    captions: list[str] | None = None
    tags: list[str] | None = None
    coarse: Words | None = None
    description: Words | None = None


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
        root, rest = (Path("/"), pattern.lstrip("/")) if pattern.startswith("/") else (base, pattern)
        matches = sorted(root.glob(rest)) if rest else []
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
                folder, _, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")
                if not stem:  # ".hidden", which some archivers add beside every file
                    continue
                stem = f"{folder}/{stem}" if folder else stem
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
    if "json" in members:
        return _from_json(key, picture, members["json"])
    caption = members.get("txt", b"").decode("utf-8", errors="replace").strip()
    return Sample(key, picture, captions=[caption]) if caption else None


def _from_json(key: str, picture: bytes, content: bytes) -> Sample | None:
    try:
        told = Told.model_validate_json(content)
    except ValidationError:
        return None
    return Sample(
        key,
        picture,
        label=told.label,
        captions=[caption.strip() for caption in told.captions or [] if caption.strip()],
        tags=[tag.strip() for tag in told.tags or [] if tag.strip()],
        coarse=told.coarse,
        description=told.description,
    )
