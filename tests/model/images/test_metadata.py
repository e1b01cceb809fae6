"""Metadata, however large or broken: left out, and the picture is used; what decides the pixels is kept."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.decoding.tiffs import layout, tiff
from model.images.header import read
from model.images.png import MAX_CHUNKS
from model.images.preprocessing import ImageError, load_image, open_header
from tests.model.pictures import SMALL, encoded

MIB = 1 << 20
LARGE = b"x" * (2 * MIB)
RANDOM = np.random.default_rng(0).bytes(2 * MIB)
SIDEWAYS = 6


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def riff(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


PNG_CHUNKS = {
    "text": chunk(b"tEXt", b"prompt\0" + LARGE),
    "much text": b"".join(chunk(b"tEXt", b"key %d\0" % number + LARGE) for number in range(33)),
    "compressed text": chunk(b"zTXt", b"prompt\0\0" + zlib.compress(LARGE)),
    "a bomb of text": chunk(b"zTXt", b"prompt\0\0" + zlib.compress(bytes(200 * MIB))),
    "international text": chunk(b"iTXt", b"workflow\0\0\0\0\0" + LARGE),
    "compressed international text": chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(LARGE)),
    "compressed XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LARGE)),
    "a text that claims to be Pillow's": chunk(b"tEXt", b"transparency\0nonsense"),
    "a text with a wrong checksum": chunk(b"tEXt", b"a\0b")[:-1] + b"\0",
    "a large profile": chunk(b"iCCP", b"name\0\0" + zlib.compress(RANDOM)),
    "a broken profile": chunk(b"iCCP", b"name\0\7nonsense"),
    "a cut gamma": chunk(b"gAMA", b"\0"),
    "cut chromaticities": chunk(b"cHRM", b"\0"),
    "a cut density": chunk(b"pHYs", b"\0"),
    "a broken animation": chunk(b"acTL", b"\0") + chunk(b"fcTL", b"\0"),
    "large EXIF": chunk(b"eXIf", b"II*\0\x08\0\0\0\0\0" + LARGE),
    "broken EXIF": chunk(b"eXIf", b"nonsense"),
    "broken EXIF as text": chunk(b"tEXt", b"Raw profile type exif\0\n\n\nnonsense"),
}


@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize("name", PNG_CHUNKS)
def test_png_chunks(cat: Image.Image, name: str, place: str) -> None:
    plain = encoded(cat, "PNG")
    at = 33 if place == "before" else len(plain) - 12
    assert np.array_equal(load_image(plain[:at] + PNG_CHUNKS[name] + plain[at:], SMALL), load_image(plain, SMALL))


JPEG_SEGMENTS = {
    "EXIF of 18 MB": segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 300,
    "extended XMP": segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(60_000)) * 200,
    "a profile of 15 MB": segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000)) * 255,
    "a cut profile": segment(0xE2, b"ICC_PROFILE\0"),
    "broken Photoshop data": segment(0xED, b"Photoshop 3.0\x008BIM\4"),
    "a broken index of pictures": segment(0xE2, b"MPF\0nonsense"),
    "a cut JFIF": segment(0xE0, b"JFIF\0"),
    "a cut Adobe": segment(0xEE, b"Adobe"),
    "20 MB of comments": segment(0xFE, bytes(65_000)) * 320,
}


@pytest.mark.parametrize("name", JPEG_SEGMENTS)
def test_jpeg_segments(cat: Image.Image, name: str) -> None:
    plain = encoded(cat, "JPEG")
    assert np.array_equal(load_image(plain[:2] + JPEG_SEGMENTS[name] + plain[2:], SMALL), load_image(plain, SMALL))


def gif_blocks(start: bytes, size: int) -> bytes:
    return start + (b"\xff" + b"c" * 255) * (size // 255) + b"\0"


def with_metadata(image: Image.Image, format_name: str) -> bytes:
    """As large as a writer makes it: 5 MB of everything that the format has."""
    plain = encoded(image, format_name)
    if format_name == "GIF":
        behind = 13 + 768
        blocks = gif_blocks(b"!\xfe", 5 * MIB) + gif_blocks(b"!\xff\x0bXMP DataXMP", 5 * MIB)
        return plain[:behind] + blocks + plain[behind:]
    if format_name == "WEBP":
        exif, large = b"Exif\0\0II*\0\x08\0\0\0\0\0", LARGE * 2
        return encoded(image, format_name, lossless=True, exif=exif + large, icc_profile=large, xmp=large)
    more: dict[int, Any] = {700: (1, LARGE), 34675: (7, LARGE), 33550: (4, range(300_000)), 50839: (1, LARGE)}
    more |= {34665: (4, [2**31]), 330: (4, [2**31]), 270: (2, LARGE)}  # EXIF and pictures behind the end of the file
    pixels = np.asarray(image.convert("RGB"))
    return tiff({**layout(image.width, image.height, 8, 3, 2), **more}, [zlib.compress(pixels.tobytes())])


@pytest.mark.parametrize("format_name", ["GIF", "WEBP", "TIFF"])
def test_large_metadata_of_the_others(cat: Image.Image, format_name: str) -> None:
    image = cat.quantize(256) if format_name == "GIF" else cat
    expected = load_image(encoded(image.convert("RGB"), "PNG"), SMALL)
    assert np.array_equal(load_image(with_metadata(image, format_name), SMALL), expected)


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def sideways(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.ROTATE_90)


ORIENTED: dict[str, Callable[[Image.Image], bytes]] = {
    "PNG, XMP": lambda image: png_with(image, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
    "PNG, compressed XMP": lambda image: png_with(
        image, chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))
    ),
    "PNG, EXIF behind a large text": lambda image: png_with(image, chunk(b"tEXt", b"a\0" + LARGE) + exif_chunk()),
    "JPEG, XMP": lambda image: jpeg_with(image, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)),
    "JPEG, EXIF between profiles": lambda image: jpeg_with(
        image, segment(0xE2, b"x" * 60_000) * 40 + segment(0xE1, b"Exif\0\0" + exif()) + segment(0xE2, b"x" * 60_000)
    ),
    "TIFF, behind a large profile": lambda image: tiff(
        {**layout(image.width, image.height, 8, 3, 2), 274: (3, [SIDEWAYS]), 34675: (7, LARGE)},
        [zlib.compress(np.asarray(image).tobytes())],
    ),
}


def exif() -> bytes:
    found = Image.Exif()
    found[0x0112] = SIDEWAYS
    return found.tobytes()[6:]


def exif_chunk() -> bytes:
    return chunk(b"eXIf", exif())


def png_with(image: Image.Image, chunks: bytes) -> bytes:
    plain = encoded(image, "PNG")
    return plain[:33] + chunks + plain[33:]


def jpeg_with(image: Image.Image, segments: bytes) -> bytes:
    plain = encoded(image, "JPEG", quality=95)
    return plain[:2] + segments + plain[2:]


@pytest.mark.parametrize("name", ORIENTED)
def test_which_side_is_up_is_still_known(cat: Image.Image, name: str) -> None:
    upright = load_image(encoded(cat, "PNG"), SMALL).astype(float)
    difference = np.abs(load_image(ORIENTED[name](sideways(cat)), SMALL) - upright).mean()
    assert difference < (2 if name.startswith("JPEG") else 1e-9)


def test_what_is_left_of_a_file(cat: Image.Image) -> None:
    plain = encoded(cat, "PNG")
    assert read(png_with(cat, PNG_CHUNKS["much text"]) + b"behind the end")[1] == plain
    assert read(plain)[1] is plain
    jpeg = encoded(cat, "JPEG")
    assert read(jpeg)[1] is jpeg
    assert read(jpeg_with(cat, JPEG_SEGMENTS["20 MB of comments"]))[1] == encoded(cat, "JPEG", quality=95)


def test_chunks_without_end_are_refused_at_once(cat: Image.Image) -> None:
    with pytest.raises(ImageError, match="more pieces than usual"):
        open_header(png_with(cat, chunk(b"tEXt", b"") * (MAX_CHUNKS + 1)))


def test_a_chunk_without_which_the_picture_is_another(cat: Image.Image) -> None:
    plain = encoded(cat, "PNG")
    with pytest.raises(ImageError, match="CgBI") as caught:  # Apple's variant, whose pixels are packed otherwise
        open_header(plain[:8] + chunk(b"CgBI", b"\0\0\0\0") + plain[8:])
    assert caught.value.code == "invalid_image"
