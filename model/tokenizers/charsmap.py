"""The character map of a SentencePiece model: which sequences of characters are replaced by which, longest first.

The `tokenizers` library applies such maps to whole graphemes, which drops and keeps characters that SentencePiece
does not; vectors are only those of the original if the ids are. Layout of the map: the size of a double-array trie as
little-endian u32, its units (u32 each, as of darts-clone), then the replacements, each ended by a zero byte.
"""

from __future__ import annotations

import re
import struct

_LEAF = 1 << 31
_MAX_REPLACEMENT_BYTES = 256  # bytes of a replacement; the longest of Unicode's normal forms has 33
# A printable ASCII character, unless what follows it may belong to it: an accent that combines.
_PLAIN = re.compile(rb"[ -~]+(?![^ -~])")
_PRINTABLE = range(0x20, 0x7F)


class CharsmapError(ValueError):
    """The bytes are no character map."""


class Charsmap:
    """Replaces by a map; the empty map changes nothing."""

    def __init__(self, blob: bytes) -> None:
        """Read a `precompiled_charsmap`. Raises CharsmapError."""
        (size,) = struct.unpack_from("<I", blob) if len(blob) >= 4 else (0,)
        if blob and (size == 0 or size % 4 or 4 + size > len(blob)):
            raise CharsmapError(f"the character map's trie should have {size} bytes, of {len(blob)} in all")
        self._units: tuple[int, ...] = struct.unpack_from(f"<{size // 4}I", blob, 4) if blob else ()
        self._replacements = blob[4 + size :]
        *whole, rest = self._replacements.split(b"\0")
        if rest or (blob and not whole) or any(len(replacement) > _MAX_REPLACEMENT_BYTES for replacement in whole):
            raise CharsmapError(
                f"the character map has a replacement without end, or of more than {_MAX_REPLACEMENT_BYTES} bytes"
            )
        self._keeps_ascii = not self._maps_ascii()

    def apply(self, text: str) -> str:
        """Replace every longest sequence that the map knows, from left to right."""
        if not self._units:
            return text
        source, replaced, start = text.encode(), bytearray(), 0
        while start < len(source):
            plain = _PLAIN.match(source, start) if self._keeps_ascii else None
            if plain:
                replaced += plain[0]
                start = plain.end()
                continue
            length, place = self._longest(source, start)
            if length:
                replaced += self._replacements[place : self._replacements.find(b"\0", place)]
            else:
                length = _character_length(source[start])
                replaced += source[start : start + length]
            start += length
        return replaced.decode("utf-8", "replace")

    def _longest(self, source: bytes, start: int) -> tuple[int, int]:
        """Length of the longest known sequence at `start`, and where its replacement begins; 0 where there is none."""
        length = place = 0
        node = self._child(0)
        for position in range(start, len(source)):
            node ^= source[position]
            if not self._leads(node, source[position]):
                break
            is_key = self._units[node] >> 8 & 1
            node = self._child(node)
            if is_key and node < len(self._units):
                length, place = position + 1 - start, self._units[node] & ~_LEAF
        return length, place

    def _child(self, node: int) -> int:
        unit = self._units[node]
        return node ^ (unit >> 10 << ((unit & 1 << 9) >> 6))

    def _leads(self, node: int, byte: int) -> bool:
        return node < len(self._units) and self._units[node] & (_LEAF | 0xFF) == byte

    def _maps_ascii(self) -> bool:
        """Whether any printable ASCII character is replaced, or may be together with another one."""
        if not self._units:
            return False
        for first in _PRINTABLE:
            node = self._child(0) ^ first
            if not self._leads(node, first):
                continue
            child = self._child(node)
            if self._units[node] >> 8 & 1 or any(self._leads(child ^ second, second) for second in _PRINTABLE):
                return True
        return False


def _character_length(lead: int) -> int:
    """Bytes of the UTF-8 character that begins with `lead`."""
    return 1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
