"""Pictures and texts of many shapes, all different, made from the four photographs of `model/probe_data`."""

from __future__ import annotations

import base64
import io
import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
from PIL import Image

from benchmarks.client import request

PHOTOGRAPHS = Path(__file__).parents[1] / "model" / "probe_data"
SHORT_SIDES = (96, 512)  # pixels of the smallest and the largest picture's short side
_WORDS = """
a an the of on in under beside photo picture drawing painting close-up view red blue green old small large bright dark
wooden cat dog horse bird fish child woman man crowd car bicycle train boat rocket aeroplane bridge tower house street
market mountain river forest beach sky cloud snow rain morning evening night cup coffee bread apple banana table chair
lamp book letter clock guitar drum ball shoe hat umbrella resting running flying swimming
"""
WORDS = _WORDS.split()


def jpeg_files(count: int, seed: int = 0) -> list[bytes]:
    """So many different JPEG files: crops of photographs, at sizes and qualities of all kinds."""
    rng = random.Random(seed)
    sources = [Image.open(path).convert("RGB") for path in sorted(PHOTOGRAPHS.glob("*.jpg"))]
    return [_jpeg(rng.choice(sources), rng) for _ in range(count)]


def _jpeg(source: Image.Image, rng: random.Random) -> bytes:
    part = rng.uniform(0.5, 1.0)
    width, height = int(source.width * part), int(source.height * part)
    left, top = rng.randint(0, source.width - width), rng.randint(0, source.height - height)
    scale = rng.randint(*SHORT_SIDES) / min(width, height)
    image = source.crop((left, top, left + width, top + height))
    image = image.resize((round(width * scale), round(height * scale)))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=rng.randint(70, 95))
    return file.getvalue()


def texts(seed: int = 0) -> Iterator[str]:
    """Different texts without end, of 1 to 40 words, most of them short."""
    rng = random.Random(seed)
    number = 0
    while True:
        number += 1
        words = min(40, 1 + int(rng.expovariate(1 / 8)))
        yield f"{number} {' '.join(rng.choices(WORDS, k=words))}"


def sentences(count: int, seed: int = 0) -> list[str]:
    """Different texts of about ten words, as captions and queries are."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(8, 12))) for _ in range(count)]


def text_requests(seed: int = 0) -> Iterator[bytes]:
    """`/embed` of one text each."""
    for text in texts(seed):
        yield embed(text)


def image_requests(files: Sequence[bytes]) -> Iterator[bytes]:
    """`/embed` of one file each, as raw bodies, never the same twice: what is asked for twice is computed once."""
    for number, file in enumerate(itertools.cycle(files)):
        yield raw_body(commented(file, number))


def raw_body(file: bytes) -> bytes:
    """`/embed` with the file itself as the body."""
    return request("POST", "/embed", file, content_type="image/jpeg")


def jpeg_squares(count: int, side: int, seed: int = 0) -> list[bytes]:
    """So many different JPEG files of `side` by `side` pixels."""
    rng = random.Random(seed)
    sources = [Image.open(path).convert("RGB") for path in sorted(PHOTOGRAPHS.glob("*.jpg"))]
    return [_jpeg_square(rng.choice(sources), rng, side) for _ in range(count)]


def _jpeg_square(source: Image.Image, rng: random.Random, side: int) -> bytes:
    part = int(min(source.size) * rng.uniform(0.5, 1.0))
    left, top = rng.randint(0, source.width - part), rng.randint(0, source.height - part)
    file = io.BytesIO()
    source.resize((side, side), box=(left, top, left + part, top + part)).save(file, "JPEG", quality=85)
    return file.getvalue()


def commented(file: bytes, number: int) -> bytes:
    """The same JPEG picture in a file of its own: with a comment after the marker that begins it."""
    return file[:2] + b"\xff\xfe\x00\x0a" + number.to_bytes(8, "big") + file[2:]


def mixed_requests(files: Sequence[bytes], largest: int = 24, seed: int = 0) -> Iterator[bytes]:
    """Texts and pictures, one or up to `largest` in a request, every encoding, and now and then a bad one."""
    rng = random.Random(seed)
    words = texts(seed)
    single = image_requests(files)
    encodings = ("float", "base64", "int8", "binary")
    while True:
        kind = rng.random()
        if kind < 0.45:
            yield embed(next(words), encoding_format=rng.choice(encodings))
        elif kind < 0.75:
            yield next(single)
        elif kind < 0.90:
            yield embed([next(words) for _ in range(rng.randint(2, largest))])
        elif kind < 0.96:
            yield embed([image_item(rng.choice(files)) if rng.random() < 0.5 else next(words) for _ in range(4)])
        else:
            yield _invalid_request(rng, files)


def embed(inputs: object, **options: object) -> bytes:
    """`/embed` with a JSON body."""
    return request("POST", "/embed", orjson.dumps({"inputs": inputs, **options}), content_type="application/json")


def image_item(file: bytes) -> dict[str, str]:
    """A picture as it stands in JSON."""
    return {"image": base64.b64encode(file).decode("ascii")}


def _invalid_request(rng: random.Random, files: Sequence[bytes]) -> bytes:
    """A request that is answered 4xx: a picture cut off, a text that is too long, no JSON."""
    kind = rng.randrange(3)
    if kind == 0:
        file = rng.choice(files)
        return request("POST", "/embed", file[: rng.randint(1, len(file) - 100)], content_type="image/jpeg")
    if kind == 1:
        return embed(" ".join(WORDS * rng.randint(2, 8)))
    return request("POST", "/embed", b'{"inputs": [', content_type="application/json")
