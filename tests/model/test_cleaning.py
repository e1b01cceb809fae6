"""Cleaning is what ftfy and html do, however short the lines, at a cost that is bounded for each character."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from types import FrameType

import ftfy
import pytest

from model.tokenizers.cleaning import clean, repaired
from model.tokenizers.clip import READ_WHOLE, Tokenizer
from tests.model.sentences import strange_texts

# What ftfy takes for wrongly decoded text, what may come of it, and what it removes or replaces.
PIECES = [
    *"ÃÂâ€™œ\x9d\x81\x85é ©¡ \xa0°²£Œœ…“”‘’–—´×ØÙà√≈‚ÄвЂВГРСĀā€β",
    *"\u4e00aZ 1.,<>&;#\x01\x1b[m\r\t\f\u2028\u2029ﬁＡﾀ\u0301\u0323\ud83d\ude00\ufeff",
    *["\n"] * 40,
    *["&eacute;", "&Atilde;", "&copy;", "&acirc;", "&euro;", "&amp;", "&lt;", "&NewLine;", "&#10;", "&rsquo;"],
    *["Ã©", "â€œ", "cafÃ©", "\r\n"],
]
# Each was more than 10 µs a character, or is of its kind: lines, and chains of which each step resolves one link.
COSTLY = {
    "lines": "é\n",
    "empty lines": "\n",
    "control characters": "\x81\n",
    "wrongly decoded lines": "Ã©\n",
    "of two kinds": "Ã©\u4e00\n",
    "that vanish": "Â\xa0\n",
    "entities": "&amp;\n",
    "escapes": "\x1b[31m\n",
}
CHAINS = {"&": "amp;", "Ã": "\x83", "\u4e00Ã": "ƒ"}
CALLS_PER_CHARACTER = 20  # of functions; line by line, they were 27 to 110


def hostile(count: int, seed: int) -> list[str]:
    """Few lines or many, but not more that look wrongly decoded than are repaired one by one."""
    draw = random.Random(seed)
    texts = []
    for _ in range(count):
        pool = draw.sample(PIECES, draw.choice([3, 6, 12, len(PIECES)]))
        texts.append("".join(draw.choice(pool) for _ in range(draw.choice([3, 8, 15]))))
    return texts


def test_lines_are_repaired_as_ftfy_repairs_them() -> None:
    for text in hostile(8000, seed=1):
        assert "".join(repaired(text)) == ftfy.fix_text(text), ascii(text)


def test_many_lines_are_repaired_as_ftfy_repairs_them() -> None:
    good = [text.replace("Ã", "A").replace("Â", "A") for text in strange_texts(300, seed=5)]
    for start in range(0, 300, 20):
        text = "\n".join([*good[start : start + 20], "cafÃ©", "<b>", "&eacute;", "â€œso"])
        assert "".join(repaired(text)) == ftfy.fix_text(text), ascii(text)


def calls(work: Callable[[str], object], text: str) -> int:
    """How many functions it calls, those of C too."""
    count = 0

    def note(_: FrameType, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work(text)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("length", [2048, 10_000])
@pytest.mark.parametrize("name", COSTLY)
def test_short_lines_cost_no_more_than_long_ones(name: str, length: int) -> None:
    text = (COSTLY[name] * length)[:length]
    clean(text)
    assert calls(clean, text) < CALLS_PER_CHARACTER * length


@pytest.mark.parametrize("start", CHAINS, ids=ascii)
def test_chains_are_not_followed_to_their_end(start: str) -> None:
    text = (start + CHAINS[start] * 2048)[:2048]
    assert calls(clean, text) < CALLS_PER_CHARACTER * len(text) / 2


@pytest.mark.parametrize("joined", [" ", "\n", "", ". "])
def test_what_is_read_of_a_long_text_has_the_first_ids_of_all_of_it(joined: str) -> None:
    clip, draw = Tokenizer.clip(), random.Random(2)
    pieces = [*strange_texts(500, seed=6), *hostile(100, seed=3), "a photo of a cat", " " * 400, "x" * 300]
    partly = 0
    for _ in range(150):
        text = joined.join(draw.choice(pieces) for _ in range(draw.choice([30, 200])))
        [whole], [beginning] = clip.encode([text]), clip.encode([text], enough=77)
        assert clip.truncate(whole) == clip.truncate(beginning), ascii(text)
        assert (len(whole) > 77) == (len(beginning) > 77)
        partly += len(beginning) < len(whole)
    assert partly or not joined


def test_short_texts_are_read_to_their_end() -> None:
    clip = Tokenizer.clip()
    text = "cat " * (READ_WHOLE // 4)
    assert clip.encode([text], enough=77) == clip.encode([text])
    assert len(clip.encode(["cat " * 100_000], enough=77)[0]) < 1000
