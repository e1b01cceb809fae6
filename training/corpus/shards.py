"""Drawings and their annotations, and the WebDataset shards of rendered ones: tars of `KEY.webp` and `KEY.json`.

Shards are byte for byte the same on every run.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from model.data.tar_members import group_by_key
from model.files import write_atomically
from training.data.shards import member_bytes

MAX_ITEMS = 2000


@dataclass(frozen=True, slots=True)
class Annotation:
    """The JSON beside an image in a shard."""

    label: str | None
    source: str
    licence: str
    tags: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    attribution: str | None = None
    extra: dict[str, str | bool] = field(default_factory=dict)

    def to_record(self) -> dict[str, object]:
        """The fields of a shard's JSON; optional ones only where there is something to say."""
        record: dict[str, object] = {"label": self.label, "captions": list(self.captions), "tags": list(self.tags)}
        record |= {"source": self.source, "licence": self.licence}
        if self.attribution:
            record["attribution"] = self.attribution
        return record | self.extra


@dataclass(frozen=True, slots=True)
class Drawing:
    """An image as its package holds it, not rendered yet: SVG text or the bytes of a raster file."""

    key: str
    kind: Literal["svg", "raster"]
    data: bytes
    annotation: Annotation
    # Clip art sits anywhere on its page; emoji fill a square that is part of the design.
    crop: bool = False


# Key, encoded image, annotation.
Item = tuple[str, bytes, Annotation]


def write_shards(folder: Path, stem: str, items: Iterable[Item]) -> list[tuple[Path, int]]:
    """Writes `stem-000000.tar` and on, and gives each path with its number of pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = list(items)
    written: list[tuple[Path, int]] = []
    for start in range(0, len(listed), MAX_ITEMS):
        part = listed[start : start + MAX_ITEMS]
        path = folder / f"{stem}-{len(written):06d}.tar"
        _write(path, part)
        written.append((path, len(part)))
    for stale in folder.glob(f"{stem}-[0-9]*.tar"):
        if stale not in {path for path, _ in written}:
            stale.unlink()
    return written


def read_shard(path: Path) -> Iterator[tuple[str, bytes, dict[str, object]]]:
    """Key, encoded image and JSON of every item that has both and nothing else. Raises ShardError."""
    for key, members in group_by_key(path, member_bytes):
        record = members.pop("json", None)
        if record is not None and len(members) == 1:
            [image] = members.values()
            yield key, image, json.loads(record)


def _write(path: Path, items: list[Item]) -> None:
    # A shard appears whole or not at all, so that a broken run can go on where it stopped.
    with write_atomically(path) as draft, tarfile.open(draft, "w") as tar:
        for key, image, annotation in items:
            _add(tar, f"{key}.webp", image)
            _add(tar, f"{key}.json", json.dumps(annotation.to_record(), ensure_ascii=False).encode())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
