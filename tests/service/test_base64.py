"""base64 as it comes in requests: read by a faster library, and nothing that Python's own reads is refused for it."""

from __future__ import annotations

import base64
import binascii
import random

import pytest

from service.errors import ApiError
from service.schema.items import ImageItem

ALPHABET = "ABCwxyz0189+/===\n -_é\x00\u4e00"


def damaged(rng: random.Random) -> str:
    characters = list(base64.b64encode(rng.randbytes(rng.randrange(60))).decode())
    for _ in range(rng.randrange(4)):
        place = rng.randrange(len(characters) + 1)
        characters[place : place + rng.randrange(2)] = rng.choice(ALPHABET)
    return "".join(characters)


def test_what_python_reads_is_read_alike_and_all_else_is_refused() -> None:
    rng = random.Random(0)
    read = refused = 0
    for text in (damaged(rng) for _ in range(20_000)):
        try:
            expected = binascii.a2b_base64(text, strict_mode=True)
        except ValueError:
            with pytest.raises(ApiError, match="not complete base64"):
                ImageItem(text, "inputs").file()
            refused += 1
        else:
            assert ImageItem(text, "inputs").file() == expected
            read += 1
    assert min(read, refused) > 1_000


def test_too_much_padding_is_read() -> None:
    assert ImageItem("zEjQR+VxtwwZ==", "inputs").file() == base64.b64decode("zEjQR+VxtwwZ")
