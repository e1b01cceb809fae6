"""Whether a caption is in another language than those that are wanted: by its script, and where py3langid is sure.

Captions are short, and names are in no language: where it is not clear, a caption counts as one of those wanted.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

from model.suggestions import not_one_of
from training.config import ConfigError

MIN_PROBABILITY = 0.7  # of the likeliest language; at 0.5 single English words are taken for Somali or Guarani
# Scripts by the first word of their characters' Unicode names, and the languages that are written in them.
SCRIPTS = {
    "ARABIC": ("ar", "fa", "ur", "ps", "ug", "ku", "sdh", "ary", "arz"),
    "ARMENIAN": ("hy",), "BENGALI": ("bn", "as"), "CJK": ("zh", "ja", "wuu", "yue"),
    "CYRILLIC": ("ru", "uk", "be", "bg", "sr", "mk", "kk", "ky", "mn", "tg", "tt", "ba"),
    "DEVANAGARI": ("hi", "mr", "ne", "sa", "gom"), "ETHIOPIC": ("am",), "GEORGIAN": ("ka",), "GREEK": ("el", "grc"),
    "GUJARATI": ("gu",), "GURMUKHI": ("pa",), "HANGUL": ("ko",), "HEBREW": ("he", "hbo"), "HIRAGANA": ("ja",),
    "KANNADA": ("kn",), "KATAKANA": ("ja",), "KHMER": ("km",), "LAO": ("lo",), "MALAYALAM": ("ml",), "MYANMAR": ("my",),
    "SINHALA": ("si",), "TAMIL": ("ta",), "TELUGU": ("te",), "THAI": ("th",), "TIBETAN": ("dz",),
}  # fmt: skip
IDEOGRAPH = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{IDEOGRAPH}]|[^\W{IDEOGRAPH}]+(?:['’-][^\W{IDEOGRAPH}]+)*")


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation; an ideograph or a kana counts as one."""
    return WORD.findall(text.lower())


@cache
def _load_identifier() -> Any:
    # Imported here, as most runs do without it, and it takes a second.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


class LanguageFilter:
    """Finds captions that are in none of some languages."""

    def __init__(self, languages: Sequence[str]) -> None:
        """`languages` are by their codes of ISO 639-1, such as en. Raises ConfigError for one that is not known."""
        self._identifier = _load_identifier()
        known = self._identifier.labels
        for language in languages:
            if language not in known:
                raise ConfigError(f"data.captions.filters.languages: {not_one_of(language, known)}")
        self._languages = frozenset(languages)
        written = {script for script, of in SCRIPTS.items() if self._languages.intersection(of)}
        alone = {language for of in SCRIPTS.values() for language in of}
        self._scripts = written | ({"LATIN"} if self._languages - alone else set())

    def is_other(self, text: str) -> bool:
        """Whether a text is surely in none of the languages."""
        letters = Counter(unicodedata.name(letter, "").partition(" ")[0] for letter in text if letter.isalpha())
        if not letters:
            return False
        script, count = letters.most_common(1)[0]
        if 2 * count > letters.total() and (script in SCRIPTS or script == "LATIN") and script not in self._scripts:
            return True
        language, probability = self._identifier.classify(text)
        return language not in self._languages and float(probability) >= MIN_PROBABILITY
