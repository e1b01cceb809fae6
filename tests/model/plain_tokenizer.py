"""CLIP's tokenizer written a second time, as simply as can be, for the first to be compared with."""

from __future__ import annotations

import gzip
import itertools
import unicodedata
from importlib import resources


class PlainTokenizer:
    """Byte-pair encoding by the book, quadratic and without a regular expression, for text that is already clean."""

    def __init__(self) -> None:
        packed = resources.files("model").joinpath("vocabulary", "merges.txt.gz").read_bytes()
        self.merges = [tuple(line.split(" ")) for line in gzip.decompress(packed).decode().split("\n")[1:-1]]
        self.ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        shown = [b for b in range(256) if chr(b).isprintable() and chr(b) != " "]
        hidden = [b for b in range(256) if b not in shown]
        symbols = [chr(b) for b in shown] + [chr(256 + n) for n in range(len(hidden))]
        self.symbol = dict(zip(shown + hidden, symbols, strict=True))
        names = symbols + [s + "</w>" for s in symbols] + [a + b for a, b in self.merges]
        self.ids = {name: index for index, name in enumerate(names)}

    def words(self, text: str) -> list[str]:
        words: list[str] = []
        kind = ""
        start = 0
        while start < len(text):
            ending = next((c for c in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d") if text.startswith(c, start)), "")
            previous, category = kind, unicodedata.category(text[start])[0]
            kind = {"L": "letter", "N": "number", "Z": "space"}.get(category, "other")
            if text[start] in "\t\n\v\f\r\x85":
                kind = "space"
            # A contraction begins only where a word may: not inside a run of punctuation.
            if ending and previous != "other":
                words.append(ending)
                start, kind = start + len(ending), ""
                continue
            if kind == previous and kind in ("letter", "other"):
                words[-1] += text[start]
            elif kind != "space":
                words.append(text[start])
            start += 1
        return words

    def encode(self, text: str) -> list[int]:
        return [self.ids[part] for word in self.words(text) for part in self.merge(word)]

    def merge(self, word: str) -> list[str]:
        parts = [self.symbol[byte] for byte in word.encode()]
        parts[-1] += "</w>"
        while len(parts) > 1:
            rank, at = min(
                (self.ranks.get(pair, len(self.ranks)), i) for i, pair in enumerate(itertools.pairwise(parts))
            )
            if rank == len(self.ranks):
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return parts
