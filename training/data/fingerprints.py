"""Fingerprints of images, by which those that look the same are found: the same bytes, or the same to the eye."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.images.preprocessing import decode, eight_bit

HASH_SIDE = 8
THUMBNAIL_SIDE = 16
# A hash alone is too coarse for drawings: every round thing has nearly the same. Colours at 16 px tell them apart.
MAX_HASH_BITS = 4
MAX_DIFFERENCE = 6.0


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is compared of one image, on white paper."""

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


def fingerprint(image: bytes) -> Fingerprint:
    """SHA-256 of the bytes, 64-bit average hash, and a thumbnail `[16, 16, 3]`."""
    rgba = eight_bit(decode(image, sys.maxsize)).convert("RGBA")
    paper = Image.new("RGBA", rgba.size, "white")
    paper.alpha_composite(rgba)
    small = paper.convert("RGB").resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    fields = np.asarray(paper.convert("L").resize((HASH_SIDE, HASH_SIDE), Image.Resampling.BOX), dtype=np.int64).ravel()
    bits = np.packbits(fields > fields.mean())
    return Fingerprint(
        sha256=hashlib.sha256(image).digest(),
        average_hash=int.from_bytes(bits.tobytes()),
        thumbnail=np.asarray(small, dtype=np.int16),
    )


class FingerprintIndex:
    """Fingerprints that others are looked up in."""

    def __init__(self, items: Iterable[tuple[str, Fingerprint]]) -> None:
        pairs = list(items)
        self.keys = [key for key, _ in pairs]
        self.exact = {each.sha256: key for key, each in pairs}
        self.hashes = np.array([each.average_hash for _, each in pairs], dtype=np.uint64)
        self.thumbnails = [each.thumbnail for _, each in pairs]

    def find(self, query: Fingerprint) -> tuple[str, float] | None:
        """Key and difference of the image most like `query`, if one is the same to the eye."""
        if query.sha256 in self.exact:
            return self.exact[query.sha256], 0.0
        bits = np.bitwise_count(self.hashes ^ np.uint64(query.average_hash))
        near = [
            (float(np.abs(self.thumbnails[number] - query.thumbnail).mean()), self.keys[number])
            for number in np.flatnonzero(bits <= MAX_HASH_BITS)
        ]
        difference, key = min(near, default=(MAX_DIFFERENCE + 1, ""))
        return (key, difference) if difference <= MAX_DIFFERENCE else None
