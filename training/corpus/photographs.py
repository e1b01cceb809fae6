"""Crops of the photographs that the scikit-image wheel carries and whose public-domain or CC0 status it states."""

import hashlib
import io
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from training.corpus.packages import FetchError
from training.corpus.shards import Annotation, Item

TABLE = Path(__file__).with_name("photographs.json")
PACKAGE = "scikit-image 0.26.0"
SHORT_SIDE = 128
QUALITY = 85


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of a photograph, as (left, top, right, bottom) in pixels, and what it shows."""

    box: tuple[int, int, int, int]
    label: str
    caption: str


@dataclass(frozen=True, slots=True)
class Photograph:
    """One file of the wheel."""

    file: str
    sha256: str
    licence: str
    attribution: str
    crops: tuple[Crop, ...]


def photographs() -> list[Photograph]:
    """The table of `photographs.json`."""
    rows = json.loads(TABLE.read_text(encoding="utf-8"))
    return [Photograph(**(row | {"crops": tuple(_crop(crop) for crop in row["crops"])})) for row in rows]


def load_photographs() -> list[Item]:
    """Key, WebP bytes and annotation of every crop."""
    return [item for photograph in photographs() for item in _cut(photograph)]


def _crop(row: dict[str, object]) -> Crop:
    box = row["box"]
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError(f"photographs.json: a box has four numbers, not {box}.")
    return Crop((int(box[0]), int(box[1]), int(box[2]), int(box[3])), str(row["label"]), str(row["caption"]))


def _cut(photograph: Photograph) -> list[Item]:
    data = _read(photograph)
    with Image.open(io.BytesIO(data)) as opened:
        photo = opened.convert("RGB")
    items = []
    for number, crop in enumerate(photograph.crops):
        image = photo.crop(crop.box)
        scale = SHORT_SIDE / min(image.size)
        if scale < 1:
            shape = (round(image.width * scale), round(image.height * scale))
            image = image.resize(shape, Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=QUALITY, method=6)
        annotation = Annotation(
            label=crop.label,
            captions=(crop.caption,),
            source=PACKAGE,
            licence=photograph.licence,
            attribution=photograph.attribution,
        )
        items.append((f"photo-{Path(photograph.file).stem}-{number}".replace("_", "-"), buffer.getvalue(), annotation))
    return items


def _read(photograph: Photograph) -> bytes:
    found = find_spec("skimage")
    if found is None or found.origin is None:
        raise FetchError(
            f"The photographs come from {PACKAGE}. Install it: pip install '{PACKAGE.replace(' ', '==')}'."
        )
    data = (Path(found.origin).parent / "data" / photograph.file).read_bytes()
    if hashlib.sha256(data).hexdigest() != photograph.sha256:
        raise FetchError(f"{photograph.file} is not the one of {PACKAGE}; install that version.")
    return data
