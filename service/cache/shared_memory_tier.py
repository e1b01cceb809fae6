"""The cache tier that the workers of one service share: records in rings, found through a hash table, in one mapping.

Nobody locks. A writer moves the head of a ring, writes its record there and then points a slot of the table at it; a
reader believes nothing but a record of its key whose checksum is right. So what two writers tore, or a process that
was killed left half written, is a miss. Positions are taken modulo the sizes: nothing outside the mapping is read.

A ring is first in, first out, and has room for vectors of any length. A record that is hit shortly before it would be
overwritten is written again, which spares what is asked for often (benchmarks/cache_tiers.py compares it with LRU).
"""

from __future__ import annotations

import mmap
import struct
import sys
from collections.abc import Callable
from hashlib import sha256
from time import monotonic
from zlib import crc32

import numpy as np

from service.cache.value import Vector

LEAST_BYTES = 4096  # a few small vectors
RINGS = 16  # the more, the rarer two processes write to the same one at once
RING_BYTES = 4 * 2**20  # at least, where there is more than one: the longest vectors are of a mixture model
TABLE_SHARE = 32  # of the bytes, one part is the table: a slot for each 256
WAYS = 8  # slots of a bucket, one line of the processor's cache
REWRITTEN = 0.75  # of a ring: what is hit and older is written again
GRAIN = 16  # bytes; records begin at multiples of it
_HEADS = 16  # words before the table: how many grains were ever written to each ring
_TAG_BITS, _POSITION_BITS = 24, 40  # of a slot; a position is a head as it was, and tells the age, too
_POSITIONS, _WORDS = 2**_POSITION_BITS - 1, 2**64 - 1
_PLACE = struct.Struct("=QI")  # of a digest: the bucket and the tag
_RECORD = struct.Struct("=IId32s")  # checksum of all that follows, bytes of the vector, when it expires, digest
_BODY = struct.Struct("=Id32s")  # what follows the checksum, before the vector
_CHECKSUM_BYTES = 4


class SharedMemoryTier:
    """Vectors by key, each for `ttl_s` seconds of `timer`, which all processes must read alike.

    Every process that uses the mapping makes one of its own. What one stores, all find.
    """

    def __init__(self, memory: mmap.mmap, ttl_s: float, timer: Callable[[], float] = monotonic) -> None:
        """`memory` has at least LEAST_BYTES, all zero before its first use. The system takes them as they fill."""
        size = len(memory) // GRAIN * GRAIN
        self._ttl_s, self._timer = ttl_s, timer
        self._bytes = memory
        self._words = memoryview(memory)[:size].cast("Q")
        self._rings = max(1, min(RINGS, size // RING_BYTES))
        self._buckets = size // TABLE_SHARE // (8 * WAYS)
        self._first_record = 8 * (_HEADS + WAYS * self._buckets)
        # Behind the last ring there is room for a header: one can be read at any position.
        self._ring_grains = (size - self._first_record - _RECORD.size) // self._rings // GRAIN
        self._rewritten_age = int(REWRITTEN * self._ring_grains)

    def get(self, key: str) -> Vector | None:
        """The vector [dimensions], read-only, or None."""
        digest = _digest(key)
        bucket, tag = self._place(digest)
        ring = bucket % self._rings
        head = self._words[ring]
        for slot in self._slots(bucket):
            age = (head - slot) & _POSITIONS
            if slot >> _POSITION_BITS == tag and age <= self._ring_grains:
                body = self._read(self._offset(ring, head - age), digest)
                if body is not None:
                    if age > self._rewritten_age:
                        self._write(bucket, tag, body)
                    return np.frombuffer(body, np.float32, offset=_BODY.size)
        return None

    def put(self, key: str, vector: Vector) -> None:
        """Store a vector [dimensions]; others are overwritten for it."""
        digest = _digest(key)
        body = _BODY.pack(vector.nbytes, self._timer() + self._ttl_s, digest) + vector.tobytes()
        self._write(*self._place(digest), body)

    def held_bytes(self) -> float:
        """Bytes that records take, for all processes."""
        return GRAIN * sum(min(self._words[ring], self._ring_grains) for ring in range(self._rings))

    def _place(self, digest: bytes) -> tuple[int, int]:
        """The bucket of a key, and the tag that tells it from most others there."""
        place, tag = _PLACE.unpack_from(digest)
        return place % self._buckets, tag >> (32 - _TAG_BITS)

    def _slots(self, bucket: int) -> list[int]:
        first = _HEADS + WAYS * bucket
        return self._words[first : first + WAYS].tolist()

    def _offset(self, ring: int, position: int) -> int:
        return self._first_record + GRAIN * (ring * self._ring_grains + position % self._ring_grains)

    def _read(self, offset: int, digest: bytes) -> bytes | None:
        """What follows the checksum of the record there, if it is whole, of that key, and not expired."""
        checksum, size, expiry, found = _RECORD.unpack_from(self._bytes, offset)
        if found != digest or size > GRAIN * self._ring_grains or not self._timer() < expiry:
            return None
        body = self._bytes[offset + _CHECKSUM_BYTES : offset + _RECORD.size + size]
        return body if crc32(body) == checksum else None

    def _write(self, bucket: int, tag: int, body: bytes) -> None:
        grains = -(-(_CHECKSUM_BYTES + len(body)) // GRAIN)
        if grains > self._ring_grains:
            return
        ring = bucket % self._rings
        head = self._words[ring]
        left = self._ring_grains - head % self._ring_grains
        if left < grains:  # a record does not go round the end
            head += left
        # Before the record: what lies there is too old from now on, and the next one writes behind it.
        self._words[ring] = (head + grains) & _WORDS
        offset = self._offset(ring, head)
        record = crc32(body).to_bytes(_CHECKSUM_BYTES, sys.byteorder) + body
        self._bytes[offset : offset + len(record)] = record
        slots = self._slots(bucket)
        ages = [
            _POSITIONS + 2 if slot >> _POSITION_BITS == tag else (head - slot) & _POSITIONS if slot else _POSITIONS + 1
            for slot in slots
        ]
        way = ages.index(max(ages))  # of the same key, else empty, else of what was overwritten or will be soonest
        self._words[_HEADS + WAYS * bucket + way] = tag << _POSITION_BITS | head & _POSITIONS


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()
