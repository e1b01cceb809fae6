"""Writes WebDataset shards: tars of `KEY.webp` and `KEY.json`, byte for byte the same on every run."""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from training.corpus.item import Words
from training.data.shards import member_bytes
from training.data.tar_members import group_by_key

MAX_ITEMS = 2000


def write_shards(folder: Path, stem: str, items: Iterable[tuple[str, bytes, Words]]) -> list[tuple[Path, int]]:
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
    """Key, picture bytes and JSON of every item that has both and nothing else. Raises ShardError."""
    for key, members in group_by_key(path, member_bytes):
        words = members.pop("json", None)
        if words is not None and len(members) == 1:
            [picture] = members.values()
            yield key, picture, json.loads(words)


def _write(path: Path, items: list[tuple[str, bytes, Words]]) -> None:
    # A shard appears whole or not at all, so that a broken run can go on where it stopped.
    scratch = path.with_suffix(".part")
    with tarfile.open(scratch, "w") as tar:
        for key, picture, words in items:
            _add(tar, f"{key}.webp", picture)
            _add(tar, f"{key}.json", json.dumps(words.as_json(), ensure_ascii=False).encode())
    scratch.replace(path)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
