"""Serialization of a vector for Redis: magic with version, checksum over key and data, little-endian float32."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

FLOATS = np.dtype("<f4")
MAGIC = b"SWV\x01"
CHECKSUM_BYTES = 16
HEADER_BYTES = len(MAGIC) + CHECKSUM_BYTES


def encode(key: str, vector: Vector) -> bytes:
    """The value to store under `key` for a vector [dimensions]."""
    data = vector.astype(FLOATS, copy=False).tobytes()
    return MAGIC + _checksum(key, data) + data


def decode(key: str, value: object, dimensions: int) -> Vector | None:
    """The vector [dimensions] that `encode` wrote for `key`, read-only; None for anything else."""
    if not isinstance(value, bytes) or len(value) != HEADER_BYTES + 4 * dimensions or not value.startswith(MAGIC):
        return None
    data = value[HEADER_BYTES:]
    if _checksum(key, data) != value[len(MAGIC) : HEADER_BYTES]:
        return None
    vector = np.frombuffer(data, FLOATS)
    return vector if np.isfinite(vector).all() else None


def _checksum(key: str, data: bytes) -> bytes:
    # With the key in it, a value that was written under another key does not pass.
    return blake2b(key.encode() + b"\n" + data, digest_size=CHECKSUM_BYTES).digest()
