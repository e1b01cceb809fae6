"""Pictures that no camera took: small ones of every kind, and what becomes of them in careless or malicious hands."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

MAGIC = [
    b"\xff\xd8\xff\xe0",
    b"\x89PNG\r\n\x1a\n",
    b"RIFF\x10\0\0\0WEBPVP8L",
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
]
EXTREMES = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]


def file(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def seeds() -> list[bytes]:
    """One of each way that Pillow can write in the accepted formats, 24 x 20 pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 24, 4), np.uint8)
    rgba = Image.fromarray(noise)
    rgb, grey, palette, cmyk = rgba.convert("RGB"), rgba.convert("L"), rgba.convert("P"), rgba.convert("CMYK")
    deep = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x011A] = 6, "a description", (72, 1)
    animated: dict[str, Any] = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}
    icc = b"\0\0\2\x0cADBE\2\x10\0\0mntrRGB XYZ " + bytes(500)
    files = [file(image, "JPEG", exif=exif, icc_profile=icc) for image in (rgb, grey, cmyk)]
    files += [file(image, "JPEG", progressive=True, quality=30) for image in (rgb, cmyk)]
    files += [file(image, "PNG", icc_profile=icc) for image in (rgb, rgba, grey, palette, deep, rgba.convert("LA"))]
    files += [file(palette, "PNG", transparency=bytes(range(256)), bits=8), file(rgb.convert("1"), "PNG", exif=exif)]
    files += [file(rgb, "PNG", **animated), file(rgb, "WEBP", **animated), file(rgb, "GIF", **animated)]
    files += [file(rgba, "WEBP", lossless=True, exif=exif), file(rgba, "WEBP", quality=20), file(rgb, "WEBP")]
    files += [file(palette, "GIF", transparency=3, interlace=1), file(grey, "GIF", comment=b"hello" * 60)]
    files += [file(image, "BMP") for image in (rgb, rgba, palette, grey, rgb.convert("1"))]
    files += [run_length_bmp()]
    compressions = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")
    files += [file(image, "TIFF", compression=kind) for kind in compressions for image in (rgb, deep, cmyk, palette)]
    files += [file(rgb, "TIFF", compression="jpeg"), file(rgb.convert("1"), "TIFF", compression="group4")]
    files += [
        file(image, "TIFF", exif=exif) for image in (rgba, grey.convert("F"), grey.convert("I"), rgb.convert("LAB"))
    ]
    files += [file(rgb, "TIFF", big_tiff=True), file(rgb, "TIFF", save_all=True, append_images=[grey])]
    return files


def run_length_bmp() -> bytes:
    rows = b"".join(bytes([24, row * 7, 0, 0]) for row in range(20)) + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, 24, 20, 1, 8, 1, len(rows), 0, 0, 256, 0)
    palette = bytes(range(256)) * 4
    return b"BM" + struct.pack("<IHHI", 1078 + len(rows), 0, 0, 1078) + header + palette + rows


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, content: bytes = b"", depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")


def _flip(random: random.Random, data: bytearray) -> None:
    for _ in range(random.choice((1, 1, 2, 8, 40))):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _flip_early(random: random.Random, data: bytearray) -> None:
    for _ in range(random.choice((1, 2, 5))):
        data[random.randrange(min(len(data), 120))] = random.randrange(256)


def _cut(random: random.Random, data: bytearray) -> None:
    del data[random.randrange(len(data)) :]


def _drop(random: random.Random, data: bytearray) -> None:
    start = random.randrange(len(data))
    del data[start : start + random.choice((1, 2, 4, 30))]


def _blank(random: random.Random, data: bytearray) -> None:
    start, size = random.randrange(len(data)), random.choice((2, 16, 200))
    data[start : start + size] = bytes([random.choice((0, 255))]) * len(data[start : start + size])


def _number(random: random.Random, data: bytearray) -> None:
    start, size = random.randrange(len(data)), random.choice((1, 2, 4))
    value = random.choice(EXTREMES) & (256**size - 1)
    data[start : start + size] = value.to_bytes(size, random.choice(("big", "little")))


def _repeat(random: random.Random, data: bytearray) -> None:
    start = random.randrange(len(data))
    data[start:start] = data[start : start + random.choice((4, 20, 300))] * random.choice((1, 5, 100))


def _insert(random: random.Random, data: bytearray) -> None:
    start = random.randrange(len(data))
    data[start:start] = random.randbytes(random.choice((1, 4, 60)))


MUTATIONS: list[Callable[[random.Random, bytearray], None]] = [
    _flip, _flip_early, _cut, _drop, _blank, _number, _repeat, _insert
]  # fmt: skip


def _mend_png(data: bytes) -> bytes:
    """With right checksums, so that what is wrong inside the chunks is read."""
    mended, at = data[:8], 8
    while at + 12 <= len(data):
        size = struct.unpack_from(">I", data, at)[0]
        mended += chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + size])
        at += 12 + size
    return mended


def mutated(random: random.Random, originals: list[bytes]) -> bytes:
    """One picture, spoilt."""
    data = bytearray(random.choice(originals))
    if random.random() < 0.05:
        data = bytearray(random.choice(MAGIC) + random.randbytes(random.choice((0, 10, 300))))
    if random.random() < 0.1:
        other = random.choice(originals)
        data[random.randrange(len(data)) :] = other[random.randrange(len(other)) :]
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        if data:
            random.choice(MUTATIONS)(random, data)
    return _mend_png(bytes(data)) if data.startswith(MAGIC[1]) and random.random() < 0.7 else bytes(data)


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small files of many pixels, with the code of their refusal: of more than 50 million, or fewer and empty."""
    for sides in [(7142, 7002), (10**5, 10**4), (2**31 - 1, 2**31 - 1), (1, 50_000_001)]:
        for options in ({}, {"depth": 1, "colour": 0}, {"depth": 16, "colour": 6}, {"interlace": 1}, {"colour": 3}):
            yield "image_too_large", png(*sides, **options)
    yield "invalid_image", png(7000, 7000)
    yield "invalid_image", png(7000, 7000, bytes(100_000))
    yield "invalid_image", png(0, 0)
    for width, height in [(65_535, 65_535), (7142, 7002)]:
        yield (
            "image_too_large",
            b"GIF89a"
            + struct.pack("<HHBBB", width, height, 0, 0, 0)
            + b","
            + struct.pack("<HHHHB", 0, 0, width, height, 0)
            + b"\x08\x02\x04\x01\0;",
        )
        jpeg = bytearray(file(Image.new("RGB", (8, 8)), "JPEG"))
        at = jpeg.index(b"\xff\xc0")
        jpeg[at + 5 : at + 9] = struct.pack(">HH", height, width)
        yield "image_too_large", bytes(jpeg)
    for sides in [(2**31 - 1, 1), (7142, -7002), (7142, 7002)]:
        header = struct.pack("<IiiHHIIiiII", 40, *sides, 1, 24, 0, 0, 0, 0, 0, 0)
        yield "image_too_large", b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header
    for width, height in [(2**31, 2**31 - 1), (7142, 7002)]:
        tags = [(256, width), (257, height), (258, 8), (259, 5), (262, 1), (273, 8), (277, 1), (278, height), (279, 1)]
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        yield "image_too_large", b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    lossless = 0x2F | (16_382 << 8) | (16_382 << 22)
    yield "image_too_large", b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8L" + struct.pack("<IQ", 9, lossless) + bytes(10)


def floods() -> Iterator[bytes]:
    """Files of a few hundred KB or MB that cost minutes, or gigabytes, unless somebody counts along."""
    jpeg, still = file(Image.new("RGB", (8, 8)), "JPEG"), file(Image.new("P", (8, 8)), "GIF")
    yield jpeg[:2] + b"\xff\xfe\0\2" * 1_000_000 + jpeg[2:]
    yield jpeg[:2] + b"\xff" * 2_000_000 + jpeg[2:]
    yield jpeg[:2] + b"\xff\xe1\0\x09Exif\0\0x" * 100_000 + jpeg[2:]
    progressive = file(Image.new("RGB", (3000, 3000)), "JPEG", progressive=True)
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    yield progressive[:-2] + scan * 3000 + progressive[-2:]
    yield png(8, 8)[:33] + chunk(b"abCd", b"") * 400_000 + png(8, 8)[33:]
    start = 13 + 3 * (2 << (still[10] & 7))
    yield still[:start] + b"!\xfe" + b"\1a" * 1_000_000 + b"\0" + still[start:]
    for kind in (1, 4):
        strips = 1_000_000
        tags = [(256, 4, 1, 1), (257, 4, 1, strips), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
        tags += [(273, kind, strips, 134), (277, 3, 1, 1), (278, 4, 1, 1), (279, kind, strips, 134)]
        entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
        yield b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(16) + b"\x08\0\0\0" * strips
    pixels = b"\1\1" * 1_100_000
    header = struct.pack("<IiiHHIIiiII", 40, 7000, 7000, 1, 8, 1, 0, 0, 0, 256, 0)
    yield b"BM" + struct.pack("<IHHI", 1078 + len(pixels), 0, 0, 1078) + header + bytes(1024) + pixels
