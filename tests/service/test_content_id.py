"""The name of an item's content, by which vectors are kept and shared."""

from __future__ import annotations

import hashlib
import itertools

import pytest

from service.inference.reading import SHORT_BYTES, content_id

SIZES = (0, 1, SHORT_BYTES, SHORT_BYTES + 1, 100_000)


def test_every_byte_counts() -> None:
    contents = [bytes(size) for size in SIZES]
    contents += [bytes(at) + b"\1" + bytes(size - at - 1) for size in SIZES[1:] for at in {0, size // 2, size - 1}]
    names = [content_id(content) for content in contents]
    assert len(set(names)) == len(set(contents))
    assert names == [content_id(content) for content in contents]


def test_which_hash_it_is_of_is_told() -> None:
    """So that names of two hashes cannot be the same; those of texts are what they were."""
    short, long = bytes(SHORT_BYTES), bytes(SHORT_BYTES + 1)
    assert content_id(short) == hashlib.sha256(short).hexdigest()
    name, digest = content_id(long).split(":")
    assert (name, len(bytes.fromhex(digest))) == ("blake3", 32)


@pytest.mark.parametrize(
    ("size", "digest"),
    [  # of the test vectors of BLAKE3: bytes 0 to 250, again and again
        (31744, "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47"),
        (102400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"),
    ],
)
def test_it_is_blake3(size: int, digest: str) -> None:
    content = bytes(itertools.islice(itertools.cycle(range(251)), size))
    assert content_id(content) == f"blake3:{digest}"
