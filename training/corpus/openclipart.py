"""Clip art of the Open Clip Art Library: pictorial drawings with a title or a telling keyword."""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from training.corpus.packages import fetch, read_members, sources
from training.corpus.shards import Annotation, Drawing
from training.corpus.titles import BLACK_AND_WHITE, are_words, is_wanted, label_of, translate

ROOT = "usr/share/openclipart/svg/"
PUBLIC_DOMAIN = {"http://web.resource.org/cc/PublicDomain", "http://creativecommons.org/licenses/publicdomain/"}
# Abstract shapes, icons, buttons, signs and maps: their words do not say what is to be seen.
LEFT_OUT = (
    "shapes/", "special/", "buttons/", "geography/", "computer/icons/", "computer/buttons/", "computer/folders/",
    "recreation/games/cards/", "signs_and_symbols/flags/", "signs_and_symbols/led/", "signs_and_symbols/map_symbols/",
    "transportation/aiga-symbols/", "transportation/roadsigns/", "people/clothing/pantyhose/", "unsorted/duplicates/",
)  # fmt: skip
LEFT_OUT_KEYWORDS = frozenset((
    "mapsym", "map", "roadsign", "flag", "flags", "led", "signalflag", "semaphore", "button", "buttons", "gradients",
    "pattern", "weathersym", "musicsym", "networksym", "map_symbol", "coastline", "symbols", "symbol", "sign", "logo",
    "logos", "webpage", "template", "diagrams",
))  # fmt: skip
LEFT_OUT_TITLES = re.compile(r"\b(diagram|rules|example|rating|stars)\b", re.IGNORECASE)
# Keywords of whole departments: as a label they would say too little.
BROAD = frozenset((
    "action", "activities", "activity", "animal", "appicon", "astronomy", "black", "blue", "bodypart", "building",
    "carbohydrate", "cartoon", "christianity", "clothing", "computer", "container", "creation", "decoration", "desktop",
    "education", "electronics", "entertainment", "equipment", "festive", "food", "game", "games", "green", "hardware",
    "harvest", "hash", "holiday", "icon", "icons", "idea", "ideas", "mammal", "menu", "miscellany", "music", "office",
    "openclipart", "party", "people", "place", "plant", "protein", "recreation", "red", "region", "religion", "science",
    "security", "shape", "signs_and_symbols", "simple", "special", "sports", "study", "theme", "thought", "tool",
    "tools", "toy", "toys", "transport", "transportation", "unsorted", "vehicle", "weather", "white", "work",
))  # fmt: skip
# Where the library filed a drawing, which says nothing of the picture.
FILING = frozenset(("signs_and_symbols", "unsorted", "special", "appicon", "openclipart", "menu", "recreation"))
# Descriptions that speak of the drawing's making are not captions.
PERSONAL = r"\b(my|me|submission|drew|drawn|drawing|made|traced|image|picture|clip art|version|illustration)\b"
NAMES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "cc": "http://web.resource.org/cc/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
}
# A drawing of a large series (37 cards, 54 stick men) says no more than its first few.
MAX_PER_LABEL = 25


@dataclass(frozen=True, slots=True)
class Record:
    """What the RDF of one file says."""

    title: str
    description: str
    keywords: tuple[str, ...]
    creator: str
    licence: str


def load_openclipart(cache: Path, held_out: Collection[str]) -> list[Drawing]:
    """The drawings that pass every filter, in the order of their paths; none names a held-out concept."""
    files = read_members(fetch(sources()["openclipart"], cache), lambda path: path.endswith(".svg"))
    english = load_english(cache)
    drawings: list[Drawing] = []
    used: Counter[str] = Counter()
    for path in sorted(files):
        short = path.removeprefix(ROOT)
        annotation = None if short.startswith(LEFT_OUT) else describe(short, parse_record(files[path]), english)
        if annotation is None or annotation.label is None or used[annotation.label] >= MAX_PER_LABEL:
            continue
        if names_any(held_out, (annotation.label, *annotation.tags, *annotation.captions)):
            continue
        used[annotation.label] += 1
        key = "openclipart-" + re.sub(r"[^a-z0-9]+", "-", short.removesuffix(".svg").lower()).strip("-")
        drawings.append(Drawing(key, "svg", files[path], annotation, crop=True))
    return drawings


def load_english(cache: Path) -> frozenset[str]:
    """Lower-case English words: a title with a name in it is not a label."""
    archive = fetch(sources()["wamerican"], cache)
    data = read_members(archive, lambda path: path.endswith("dict/american-english")).popitem()[1]
    return frozenset(word for word in data.decode("utf-8").split() if word.islower())


def parse_record(svg: bytes) -> Record | None:
    """Title, description, keywords and licence; None where the RDF cannot be read."""
    found = re.search(rb"<cc:Work.*?</cc:Work>|<Work.*?</Work>", svg, re.DOTALL)
    if found is None:
        return None
    spaces = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMES.items())
    body = found[0].decode("utf-8", "replace").replace("<Work", "<cc:Work").replace("</Work", "</cc:Work")
    try:
        # The element is cut out of its file, so no DTD and no entity of the file's own comes with it.
        work = ET.fromstring(f"<metadata {spaces}>{body}</metadata>").find("cc:Work", NAMES)  # noqa: S314
    except ET.ParseError:
        return None
    if work is None:
        return None
    licence = work.find("cc:license", NAMES)
    bag = (
        re.sub(r"hash\(.*?\)|^hash$", "", (li.text or "").strip().lower()) for li in work.iterfind(".//rdf:li", NAMES)
    )
    return Record(
        title=_text(work, "dc:title"),
        description=_text(work, "dc:description"),
        keywords=tuple(dict.fromkeys(word for word in bag if word)),
        creator=_text(work, "dc:creator//dc:title"),
        licence=licence.get(f"{{{NAMES['rdf']}}}resource", "") if licence is not None else "",
    )


def describe(path: str, record: Record | None, english: Collection[str]) -> Annotation | None:
    """The annotation of a drawing, or None where it is left out."""
    if record is None or record.licence not in PUBLIC_DOMAIN or LEFT_OUT_KEYWORDS.intersection(record.keywords):
        return None
    if not is_wanted(" ".join((path, record.title, *record.keywords))):
        return None
    tags = tuple(word for word in record.keywords if are_words(word.replace("_", " "), english))
    if LEFT_OUT_TITLES.search(record.title):
        return None
    titled = label_of(record.title, PurePosixPath(path).stem, record.creator, english)
    label = titled or _telling(tags)
    if label is None:
        return None
    if BLACK_AND_WHITE.search(f"{record.title} {path.replace('_', ' ')}"):
        tags = (*tags, "black and white")
    return Annotation(
        label=label,
        tags=tuple(tag.replace("_", " ") for tag in tags if tag != label and tag not in FILING),
        captions=_captions(record.description, label, english),
        source=f"{sources()['openclipart'].package} {sources()['openclipart'].version}",
        licence="public domain",
        extra={"path": path, "label_from": "title" if titled else "keyword"},
    )


def names_any(names: Collection[str], texts: Sequence[str]) -> bool:
    """Whether any run of words in the texts is one of the names, in the singular or the plural."""
    for text in texts:
        words = re.findall(r"[^\W_]+", text.lower())
        for start in range(len(words)):
            for end in range(start + 1, len(words) + 1):
                run = " ".join(words[start:end])
                if not singulars(run).isdisjoint(names):
                    return True
    return False


def singulars(run: str) -> set[str]:
    """A phrase and what it would be in the singular."""
    return {run, run.removesuffix("s"), run.removesuffix("es")}


def _telling(tags: Collection[str]) -> str | None:
    return next((tag for tag in tags if tag not in BROAD and len(tag) > 2), None)


def _captions(description: str, label: str, english: Collection[str]) -> tuple[str, ...]:
    text = re.sub(r"\s+", " ", description).strip()
    words = text.lower().rstrip(".")
    if not 3 <= len(words.split()) <= 16 or words == label or translate(words) or re.search(r"[@/\d]|\bI\b", text):
        return ()
    return (text,) if are_words(words, english) and not re.search(PERSONAL, words) else ()


def _text(work: ET.Element, path: str) -> str:
    found = work.find(path, NAMES)
    return (found.text or "").strip() if found is not None else ""
