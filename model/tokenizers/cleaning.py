"""CLIP's text cleaning: the encoding repaired, HTML entities resolved, white space collapsed, small letters.

The result is that of the original, which is `ftfy.fix_text` and `html.unescape` twice (openai/CLIP,
`simple_tokenizer.py`), in time that is bounded for each character. ftfy repairs each line by itself, which takes 10 µs,
and 60 where the line looks wrongly decoded: up to 30 µs a character where lines are short. So lines that look right
are repaired together, and those that do not by themselves as long as there are few.
"""

from __future__ import annotations

import html
import re
import string
import unicodedata
from collections.abc import Iterator

import ftfy
from ftfy import fixes
from ftfy.badness import is_bad

from model.library_config import TextCleaning

# html.unescape hands a decimal reference to int(), which refuses more than 4,300 digits; all of them are far beyond
# the last code point.
_ENDLESS_REFERENCE = re.compile(r"&#[0-9]{4000,};?")

# Unicode normalisation takes the square of a run of combining marks: longer lines, of which no context holds more than
# the beginning, are repaired piece by piece, cut at spaces.
_LONG_LINE = 2048
_PIECE = re.compile(r".{1,1023}(?: |\Z)|.{1,1024}", re.DOTALL)
_BLOCK = 2048  # characters of lines that are repaired together
_NEEDS_NO_REPAIR = re.compile(r"[\t\n\f -%'-~]*")  # ASCII without control characters and entities
# Beyond so many lines that look wrongly decoded, and one for each 64 characters, they are repaired together. No text
# that anybody wrote has so many so short ones.
_BAD_LINES, _CHARACTERS_PER_BAD_LINE = 16, 64

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)

# ftfy goes on until nothing changes. Texts can be made in which each step resolves one character: "&amp;amp;amp;..."
_STEPS = 12
_CONFIG = ftfy.TextFixerConfig(explain=False)

# What ftfy looks for where a line begins: it is found in the middle of several lines only by looking there.
_BAD_BEGINNING = re.compile(r"^[ÃÂ] ", re.MULTILINE)
# As in ftfy.fix_and_explain, after the encoding.
_FIXES = (
    fixes.fix_c1_controls,
    fixes.fix_latin_ligatures,
    fixes.fix_character_width,
    fixes.uncurl_quotes,
    fixes.fix_line_breaks,
    fixes.fix_surrogates,
    fixes.remove_terminal_escapes,
    fixes.remove_control_chars,
)


def clean(text: str) -> str:
    """The text as CLIP's tokenizer splits it into words."""
    return text_of("".join(repaired(text)))


def text_of(repaired_text: str, cleaning: TextCleaning = "lower") -> str:
    """The last steps: HTML entities resolved twice, white space collapsed, and what the cleaning says beyond that."""
    if "&" in repaired_text:
        repaired_text = _unescape(_unescape(repaired_text))
    if cleaning == "canonicalize":
        repaired_text = repaired_text.replace("_", " ").translate(_NO_PUNCTUATION)
    collapsed = re.sub(r"\s+", " ", repaired_text).strip()
    return collapsed if cleaning == "whitespace" else collapsed.lower()


def repaired(text: str) -> Iterator[str]:
    """The parts of the text, one after the other, as ftfy repairs it.

    Each is some of its lines, with their ends, or a piece of a long line. What a part becomes does not depend on what
    follows it.
    """
    if text.isascii() and text.isprintable() and "&" not in text:
        yield from (text[start : start + _BLOCK] for start in range(0, len(text), _BLOCK))
        return
    repair = _Repair()
    for block in _blocks(text):
        yield repair(block)


def _blocks(text: str) -> Iterator[str]:
    """Whole lines, as many as make a block; of a line that is longer than that, its pieces."""
    start = 0
    while start < len(text):
        stop = len(text) if len(text) - start <= _BLOCK else text.rfind("\n", start, start + _BLOCK) + 1
        if stop:
            yield text[start:stop]
        else:
            stop = text.find("\n", start) + 1 or len(text)
            yield from (piece[0] for piece in _PIECE.finditer(text, start, stop))
        start = stop


class _Repair:
    """ftfy.fix_text, block by block."""

    def __init__(self) -> None:
        self._entities = True  # resolved until a tag is met: then the text is HTML, whose entities have a meaning
        self._characters = self._bad_lines = 0

    def __call__(self, block: str) -> str:
        self._characters += len(block)
        if _NEEDS_NO_REPAIR.fullmatch(block):
            self._entities = self._entities and "<" not in block
            return block
        tag = block.find("<") if self._entities else -1
        if tag < 0:
            return self._lines(block)
        start = block.rfind("\n", 0, tag) + 1
        before = self._lines(block[:start])
        self._entities = False
        return before + self._lines(block[start:])

    def _lines(self, lines: str) -> str:
        together = _repair_together(lines, self._entities)
        if together is not None:
            return together
        middle = _middle(lines)
        if not middle:
            self._bad_lines += 1
        elif self._bad_lines < _BAD_LINES + self._characters // _CHARACTERS_PER_BAD_LINE:
            return self._lines(lines[:middle]) + self._lines(lines[middle:])
        return _repair(lines, self._entities)


def _middle(lines: str) -> int:
    """Where about the second half of the lines begins; 0 where there is only one."""
    after = lines.find("\n", len(lines) // 2) + 1
    return after if 0 < after < len(lines) else lines.rfind("\n", 0, max(0, len(lines) - 1)) + 1


def _repair_together(lines: str, entities: bool) -> str | None:
    """What ftfy makes of each of the lines; None if any of them looks wrongly decoded, first or once it is repaired."""
    for _ in range(_STEPS):
        before = lines
        if entities and "&" in lines:
            lines = fixes.unescape_html(lines)
        # A superset of what ftfy finds: a line that looks bad by itself does so among others.
        if not lines.isascii() and (is_bad(lines) or _BAD_BEGINNING.search(lines)):
            return None
        lines = _fix_all_but_encoding(lines)
        if lines == before:
            break
    return lines


def _repair(line: str, entities: bool) -> str:
    """ftfy.fix_and_explain without the explanation."""
    steps = 0
    for _ in range(_STEPS):
        before = line
        if entities and "&" in line:
            line = fixes.unescape_html(line)
        while steps < _STEPS:
            steps += 1
            decoded = ftfy._fix_encoding_one_step_and_explain(line, _CONFIG).text
            if decoded == line:
                break
            line = decoded
        line = _fix_all_but_encoding(line)
        if line == before:
            break
    return line


def _fix_all_but_encoding(text: str) -> str:
    for fix in _FIXES:
        text = fix(text)
    return unicodedata.normalize("NFC", text)


def _unescape(text: str) -> str:
    return html.unescape(_ENDLESS_REFERENCE.sub("\N{REPLACEMENT CHARACTER}", text))
