"""Firefox OS emoji are named by hand, mostly after old Unicode names; this finds the concept that each one draws."""

import unicodedata
from collections.abc import Mapping

from training.corpus.concepts import Concept, plain_hexcode

# Names that follow no standard, looked at one by one: theirs -> the concept's.
BY_HAND = {
    "2hearts": "two hearts", "beachumbrella": "beach with umbrella", "blackrosette": "rosette",
    "bouquetofflowers": "bouquet", "boot": "woman's boot", "bullhorn": "megaphone", "bunny": "rabbit face",
    "bunnyside": "rabbit", "cancellationx": "cross mark", "catside": "cat", "cellphone": "mobile phone",
    "chilipepper": "hot pepper", "construct": "construction worker", "cop": "police officer",
    "dogside": "dog", "dragonhead": "dragon face", "dragonside": "dragon",
    "evergreen": "evergreen tree", "fallingleaf": "fallen leaf", "fishcakeswirl": "fish cake with swirl",
    "flexbicep": "flexed biceps", "forkknife": "fork and knife", "frontfacingchick": "front-facing baby chick",
    "gem": "gem stone", "gma": "old woman", "gpa": "old man", "guapimao": "person with skullcap",
    "hampster": "hamster", "heartarrow": "heart with arrow", "heartblue": "blue heart",
    "heartgreen": "green heart", "heartpurple": "purple heart", "heartribbon": "heart with ribbon",
    "heartyellow": "yellow heart", "heels": "high-heeled shoe", "leaffluttering": "leaf fluttering in wind",
    "leopardside": "leopard", "lips": "mouth", "lockandkey": "locked with key", "mansshirt": "t-shirt",
    "mensrunner": "running shoe", "mensshoe": "man's shoe", "mouseside": "mouse",
    "monkeyhear": "hear-no-evil monkey", "monkeysee": "see-no-evil monkey", "monkeyspeak": "speak-no-evil monkey",
    "pigside": "pig", "pigsnout": "pig nose", "poo": "pile of poo", "present": "wrapped gift",
    "racecar": "racing car", "raincloud": "cloud with rain", "sandals": "woman's sandal",
    "snowcloud": "cloud with snow", "snowmountains": "snow-capped mountain", "spurtingwhale": "spouting whale",
    "sunraincloud": "sun behind rain cloud", "tennisball": "tennis", "tie": "necktie", "tigerside": "tiger",
    "toykotower": "Tokyo tower", "whitestar": "star", "whitesun": "sun", "womansshirt": "woman's clothes",
    "swimming": "person swimming", "videocasette": "videocassette",
}  # fmt: skip


def squash(name: str) -> str:
    """Letters and digits only, lower case."""
    return "".join(char for char in name.lower() if char.isalnum())


def match_names(icons: Mapping[str, object], concepts: Mapping[str, Concept]) -> dict[str, str]:
    """Plain hexcode -> icon name, for every icon whose concept is certain."""
    known = _known_names(concepts)
    by_name = {squash(concept.name): code for code, concept in concepts.items()}
    found: dict[str, str] = {}
    for icon in icons:
        code = by_name.get(squash(BY_HAND[icon])) if icon in BY_HAND else known.get(squash(icon))
        if code is not None:
            found.setdefault(code, icon)
    return found


def _known_names(concepts: Mapping[str, Concept]) -> dict[str, str]:
    known: dict[str, str] = {}
    for code in concepts:
        if "-" not in code and (old := unicodedata.name(chr(int(code, 16)), "")):
            known[squash(old)] = plain_hexcode(code)
    # Today's names win over the old Unicode ones.
    return known | {squash(concept.name): code for code, concept in concepts.items()}
