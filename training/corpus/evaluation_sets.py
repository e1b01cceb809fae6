"""The sets that are only ever tested on: other artists, cut-out photographs, grey pictures of clothing."""

import gzip
import io
import json
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from PIL import Image

from training.corpus.concepts import Concept, plain_hexcode
from training.corpus.packages import fetch, read_members, sources
from training.corpus.shards import Annotation, Drawing

STAMPS = "usr/share/tuxpaint/stamps/"
FASHION = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
IDX_IMAGES_HEADER_BYTES, IDX_LABELS_HEADER_BYTES = 16, 8
FASHION_SIDE = 28
# Letters, digits, coins and chess men: a caption there names a glyph.
STAMPS_LEFT_OUT = ("symbols/", "town/flags/")


def load_openmoji(cache: Path, concepts: Mapping[str, Concept], trained: Collection[str]) -> list[Drawing]:
    """Another artist's emoji by their annotation; `seen` says whether a training drawing has the name."""
    source = sources()["openmoji"]
    table, pictures = "data/openmoji.json", "color/svg/"
    members = read_members(fetch(source, cache), lambda path: path == table or path.startswith(pictures))
    drawings = []
    for row in json.loads(members[table]):
        concept = concepts.get(plain_hexcode(row["hexcode"]))
        if concept is None or row["skintone"]:
            continue
        tags = [tag.strip() for tag in f"{row['tags']},{row['openmoji_tags']}".split(",")]
        annotation = Annotation(
            label=row["annotation"],
            tags=tuple(dict.fromkeys(tag for tag in tags if tag)),
            source=f"{source.package} {source.version}",
            licence=source.licence,
            attribution=f"{source.attribution}; drawn by {row['openmoji_author']}",
            extra={"hexcode": row["hexcode"], "seen": bool({concept.name, row["annotation"]} & set(trained))},
        )
        image = members[f"{pictures}{row['hexcode']}.svg"]
        drawings.append(Drawing(f"openmoji-{row['hexcode'].lower()}", "svg", image, annotation))
    return drawings


def load_tuxpaint(cache: Path) -> list[Drawing]:
    """Stamps with their English caption, the first line of the text beside each picture."""
    source = sources()["tuxpaint"]
    kept = (".png", ".svg", ".txt")
    members = read_members(fetch(source, cache), lambda path: path.startswith(STAMPS) and path.endswith(kept))
    drawings: dict[str, Drawing] = {}
    for path in sorted(members, reverse=True):
        text = members.get(f"{path.rpartition('.')[0]}.txt")
        short = path.removeprefix(STAMPS)
        if path.endswith(".txt") or text is None or short.startswith(STAMPS_LEFT_OUT) or "mirror" in short:
            continue
        caption = text.decode("utf-8", "replace").splitlines()[0].strip()
        annotation = Annotation(
            label=None,
            captions=(caption,),
            tags=tuple(PurePosixPath(short).parts[:-1]),
            source=f"{source.package} {source.version}",
            licence=source.licence,
            attribution=source.attribution,
        )
        if caption:
            key = "tuxpaint-" + short.rpartition(".")[0].replace("/", "-").replace(".", "-")
            # Where a stamp is there as SVG and PNG, the PNG comes last and stays: it shows what the artist saw.
            drawings[key] = Drawing(
                key, "svg" if path.endswith(".svg") else "raster", members[path], annotation, crop=True
            )
    return [drawings[key] for key in sorted(drawings)]


def load_fashion(cache: Path) -> list[Drawing]:
    """The 10,000 test pictures of Fashion-MNIST, grey on black as published."""
    source = sources()["fashion-mnist"]
    members = read_members(fetch(source, cache), lambda path: "/t10k-" in path)
    files = {PurePosixPath(path).name: gzip.decompress(data) for path, data in members.items()}
    pixels = files["t10k-images-idx3-ubyte.gz"][IDX_IMAGES_HEADER_BYTES:]
    labels = files["t10k-labels-idx1-ubyte.gz"][IDX_LABELS_HEADER_BYTES:]
    area = FASHION_SIDE * FASHION_SIDE
    drawings = []
    for number, label in enumerate(labels):
        image = Image.frombytes("L", (FASHION_SIDE, FASHION_SIDE), pixels[number * area : (number + 1) * area])
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        name = f"{source.package} {source.version}"
        annotation = Annotation(FASHION[label], name, source.licence, attribution=source.attribution)
        drawings.append(Drawing(f"fashion-{number:05d}", "raster", buffer.getvalue(), annotation))
    return drawings
