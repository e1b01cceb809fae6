"""The emoji as concepts: a name, tags, and the rule that decides which ones are never trained on."""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

HELD_OUT_SHARE = 10
COMPONENT_GROUP = 2
PEOPLE = frozenset(("man", "men", "woman", "women", "person", "people", "and"))
# Photographs of these things are tested on too; without their drawings those tests would ask for unknown words.
ALWAYS_TRAINED = frozenset((
    "airplane", "articulated lorry", "automobile", "bird", "cat", "deer", "delivery truck", "dog", "ferry", "frog",
    "horse", "kangaroo", "laptop", "lobster", "pizza", "rooster", "saxophone", "seat", "ship", "umbrella",
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Concept:
    """One emoji, whoever draws it."""

    hexcode: str
    name: str
    tags: tuple[str, ...]


def plain_hexcode(hexcode: str) -> str:
    """Lower case without the variation selector, which the sets write or leave out as they like."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def family(name: str) -> str:
    """What a name shares with its variants: man, woman and person walking, and walking to the right, are one family."""
    head, _, tail = name.lower().partition(": ")
    words = (tail if head in PEOPLE and tail else head).split()
    return " ".join(word for word in words if word not in PEOPLE) or " ".join(words)


@cache
def is_held_out(name: str) -> bool:
    """Whether the concept is one of the tenth that no training shard shows, by a hash of its family's name."""
    shared = family(name)
    if shared in ALWAYS_TRAINED:
        return False
    return int.from_bytes(hashlib.sha256(shared.encode()).digest()[:8]) % HELD_OUT_SHARE == 0


def held_out_names(concepts: Iterable[Concept]) -> frozenset[str]:
    """Lower-case names of the held-out concepts and of their families."""
    names = [concept.name.lower() for concept in concepts if is_held_out(concept.name)]
    return frozenset(names) | frozenset(family(name) for name in names)


def is_pictorial(row: dict[str, object]) -> bool:
    """False for country flags, keycaps, regional letters, skin tones and hair components."""
    name = str(row["label"])
    if row.get("group") in {None, COMPONENT_GROUP}:
        return False
    return not re.match(r"flag: |keycap: |regional indicator ", name)


def parse_concepts(data: bytes) -> dict[str, Concept]:
    """The pictorial concepts of emojibase's `data.json`, by their plain hexcode."""
    rows = json.loads(data)
    return {plain_hexcode(row["hexcode"]): _concept(row) for row in rows if is_pictorial(row)}


def _concept(row: dict[str, object]) -> Concept:
    tags = row.get("tags", [])
    name = str(row["label"])
    kept = tuple(str(tag) for tag in tags if tag != name) if isinstance(tags, list) else ()
    return Concept(hexcode=str(row["hexcode"]), name=name, tags=kept)
