"""Makes labels out of clip art titles: words a person would say, or nothing."""

import html
import json
import re
from collections.abc import Collection
from functools import cache
from pathlib import Path

# Whole collections share such a title; the file's own name says more.
GENERIC = re.compile(
    r"clipart by|various cliparts|collection|theme|iconset|icons|icon$|aiga|road ?signs|sibmission|homes clipart|"
    r"map elements|map symbols|sallite|illustration$|^people$|^card$|hash\(0x|^untitled|^drawing",
    re.IGNORECASE,
)
# Annotation that say how a drawing was made or filed, not what it shows.
NOISE = re.compile(
    r"\(?\bb ?(and|&|n) ?w\b\)?|\bbw\b|\bblack and white\b|\b(clip ?art|svg|contour|outline|symbol|template|ganson|mo|"
    r"stylized|no|nr|version|vector|remix|draft|v)\b"
)
BLACK_AND_WHITE = re.compile(r"(?<![a-z])(b ?(and|&|n) ?w|black[ _]and[ _]white)(?![a-z])", re.IGNORECASE)
UNWANTED = frozenset(
    ("stripper", "nude", "naked", "sexy", "sex", "swastika", "nazi", "pantyhose", "bra", "thong", "thongs", "underwear")
)
SMALL = frozenset(
    ("a", "an", "the", "of", "in", "on", "at", "to", "with", "and", "or", "for", "from", "by", "over", "under", "is")
)
MAX_LABEL_WORDS = 6
ITALIAN_AUTHOR = "Rollandin"


@cache
def italian() -> dict[str, str]:
    """Titles of one author who names his drawings in Italian, translated for this corpus."""
    table: dict[str, str] = json.loads(Path(__file__).with_name("italian.json").read_text(encoding="utf-8"))
    return table


def clean(title: str) -> str:
    """Lower-case words without numbers, camel case, author's remarks or what follows a dash."""
    text = html.unescape(html.unescape(title)).replace("\u2019", "'").replace("_", " ")
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower()
    text = re.sub(r"\s-\s.*|\(.*?\)|#|\d+", " ", text)
    text = re.sub(r"(?<=[a-z])-(?=[a-z])", " ", NOISE.sub(" ", text)) if "-" in text else NOISE.sub(" ", text)
    return re.sub(r"[^\w'-]+", " ", text).strip(" -'")


def translate(title: str) -> str | None:
    """English for a title (or file name) that the table of Italian ones knows."""
    text = html.unescape(html.unescape(title)).lower().replace("_", " ")
    text = re.sub(r"\(.*?\)|\d+(?!d\b)", " ", text)
    return italian().get(re.sub(r"\s+", " ", text).strip())


def are_words(text: str, english: Collection[str]) -> bool:
    """Whether every word is English and at least one says something."""
    words = re.findall(r"[^\W\d_]+(?:'[a-z]+)?", text)
    telling = [word for word in words if word not in SMALL]
    return bool(telling) and all(word in SMALL or (len(word) > 1 and _is_english(word, english)) for word in words)


def is_wanted(text: str) -> bool:
    """False for drawings that a general picture model is better off without."""
    return not UNWANTED.intersection(re.findall(r"[a-z]+", text.lower()))


def label_of(title: str, stem: str, creator: str, english: Collection[str]) -> str | None:
    """A label from the title, or from the file's name where the title names a collection."""
    text = stem.removeprefix("contour_") if not title or GENERIC.search(title) else title
    known = translate(text) if ITALIAN_AUTHOR in creator else None
    if known is not None:
        return known
    label = without_leading_names(clean(text), english)
    authors = set(re.findall(r"\w{4,}", creator.lower()))
    if not 0 < len(label.split()) <= MAX_LABEL_WORDS or authors.intersection(label.split()):
        return None
    return label if are_words(label, english) else None


def without_leading_names(label: str, english: Collection[str]) -> str:
    """`nitrox scuba tank` becomes `scuba tank`, `brozo the clown` becomes `clown`."""
    words = label.split()
    while words and (words[0] in SMALL or not are_words(words[0], english)):
        words.pop(0)
    return " ".join(words)


def _is_english(word: str, english: Collection[str]) -> bool:
    return word in english or word.removesuffix("'s") in english
