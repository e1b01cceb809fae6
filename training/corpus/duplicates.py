"""Finds training pictures that are also test pictures: the same bytes, or the same to the eye."""

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.images.preprocessing import decode, eight_bit
from training.corpus.shards import read_shard

HASH_SIDE = 8
THUMBNAIL_SIDE = 16
# A hash alone is too coarse for drawings: every round thing has nearly the same. Colours at 16 px tell them apart.
MAX_HASH_BITS = 4
MAX_DIFFERENCE = 6.0


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is compared of one picture, on white paper."""

    sha256: bytes
    average_hash: int
    thumbnail: NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A training item, the test item that it repeats, and their mean difference in grey levels of 255."""

    train_key: str
    test_key: str
    exact: bool
    difference: float


def fingerprint(picture: bytes) -> Fingerprint:
    """SHA-256 of the bytes, 64-bit average hash, and a thumbnail `[16, 16, 3]`."""
    rgba = eight_bit(decode(picture, sys.maxsize)).convert("RGBA")
    paper = Image.new("RGBA", rgba.size, "white")
    paper.alpha_composite(rgba)
    small = paper.convert("RGB").resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    fields = np.asarray(paper.convert("L").resize((HASH_SIDE, HASH_SIDE), Image.Resampling.BOX), dtype=np.int64).ravel()
    bits = np.packbits(fields > fields.mean())
    return Fingerprint(
        sha256=hashlib.sha256(picture).digest(),
        average_hash=int.from_bytes(bits.tobytes()),
        thumbnail=np.asarray(small, dtype=np.int16),
    )


class Index:
    """Fingerprints that others are looked up in."""

    def __init__(self, items: Iterable[tuple[str, Fingerprint]]) -> None:
        pairs = list(items)
        self.keys = [key for key, _ in pairs]
        self.exact = {mark.sha256: key for key, mark in pairs}
        self.hashes = np.array([mark.average_hash for _, mark in pairs], dtype=np.uint64)
        self.thumbnails = [mark.thumbnail for _, mark in pairs]

    def find(self, wanted: Fingerprint) -> tuple[str, float] | None:
        """Key and difference of the picture most like this one, if one is the same to the eye."""
        if wanted.sha256 in self.exact:
            return self.exact[wanted.sha256], 0.0
        bits = np.bitwise_count(self.hashes ^ np.uint64(wanted.average_hash))
        near = [
            (float(np.abs(self.thumbnails[place] - wanted.thumbnail).mean()), self.keys[place])
            for place in np.flatnonzero(bits <= MAX_HASH_BITS)
        ]
        difference, key = min(near, default=(MAX_DIFFERENCE + 1, ""))
        return (key, difference) if difference <= MAX_DIFFERENCE else None


def index(shards: Iterable[Path]) -> Index:
    """All pictures of some shards."""
    return Index((key, fingerprint(picture)) for path in shards for key, picture, _ in read_shard(path))


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
