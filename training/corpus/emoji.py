"""The emoji sets: which drawing in which package shows which concept."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from training.corpus.concepts import Concept, parse_concepts, plain_hexcode
from training.corpus.fxemoji_names import match_names
from training.corpus.packages import Source, fetch, read_members, sources
from training.corpus.shards import Annotation, Drawing

SETS = ("fluent-3d", "fluent-flat", "noto", "twemoji", "fxemoji")


def load_concepts(cache: Path) -> dict[str, Concept]:
    """The pictorial concepts, by plain hexcode."""
    name = "en/data.json"
    return parse_concepts(read_members(fetch(sources()["emojibase"], cache), lambda path: path == name)[name])


def load_set(name: str, concepts: Mapping[str, Concept], cache: Path) -> list[tuple[Concept, Drawing]]:
    """Every concept that one artist drew, in the order of the hexcodes."""
    source = sources()[name]
    archive = fetch(source, cache)
    found = _pictures(archive) if name == "fluent-3d" else _icons(archive, concepts)
    pairs = {code: (kind, data) for code, kind, data in found if code in concepts}
    return [(concepts[code], _drawing(source, concepts[code], *pairs[code])) for code in sorted(pairs)]


def emoji_annotation(source: Source, concept: Concept) -> Annotation:
    """The annotation of a drawing of this concept from this source."""
    return Annotation(
        label=concept.name,
        tags=concept.tags,
        source=f"{source.package} {source.version}",
        licence=source.licence,
        attribution=source.attribution,
        extra={"hexcode": concept.hexcode},
    )


def _drawing(source: Source, concept: Concept, kind: str, data: bytes) -> Drawing:
    key = f"{source.name}-{plain_hexcode(concept.hexcode)}"
    return Drawing(key, "svg" if kind == "svg" else "raster", data, emoji_annotation(source, concept))


def _pictures(archive: Path) -> Iterator[tuple[str, str, bytes]]:
    for path, data in read_members(archive, lambda path: path.endswith(".webp")).items():
        yield plain_hexcode(Path(path).stem), "raster", data


def _icons(archive: Path, concepts: Mapping[str, Concept]) -> Iterator[tuple[str, str, bytes]]:
    members = read_members(archive, lambda path: path in {"icons.json", "chars.json"})
    icons = json.loads(members["icons.json"])
    # An empty table (`[]`) means that the set names its icons only by hand.
    chars = json.loads(members["chars.json"]) or match_names(icons["icons"], concepts)
    for code, name in chars.items():
        if plain_hexcode(code) in concepts and (svg := icon_svg(icons, name)) is not None:
            yield plain_hexcode(code), "svg", svg.encode()


def icon_svg(icons: dict[str, Any], name: str) -> str | None:
    """A whole SVG document from an icon set's body; an alias may mirror its parent."""
    alias = icons.get("aliases", {}).get(name, {})
    icon = icons["icons"].get(alias.get("parent", name))
    if icon is None:
        return None
    left, top = icon.get("left", 0), icon.get("top", 0)
    width, height = icon.get("width", icons.get("width", 16)), icon.get("height", icons.get("height", 16))
    body = icon["body"]
    if alias.get("hFlip"):
        body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {names} viewBox="{left} {top} {width} {height}">{body}</svg>'
