"""Finds training pictures that are also test pictures: the same bytes, or the same to the eye."""

from collections.abc import Iterable
from pathlib import Path

from training.corpus.shards import read_shard
from training.data.fingerprints import Duplicate, FingerprintIndex, fingerprint


def index(shards: Iterable[Path]) -> FingerprintIndex:
    """All pictures of some shards."""
    return FingerprintIndex((key, fingerprint(picture)) for path in shards for key, picture, _ in read_shard(path))


def find_duplicates(train: Iterable[Path], test: Iterable[Path]) -> list[Duplicate]:
    """Every training item that repeats a test item, with the test item most like it."""
    tested = index(test)
    found = []
    for path in train:
        for key, picture, _ in read_shard(path):
            mark = fingerprint(picture)
            if (same := tested.find(mark)) is not None:
                found.append(Duplicate(key, same[0], mark.sha256 in tested.exact, same[1]))
    return found
