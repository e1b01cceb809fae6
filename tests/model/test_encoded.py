"""Files of many pieces: as many as real ones have, and as many as only an attacker writes."""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from model.images.preprocessing import ImageError, decode, open_header

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8))


def saved(kind: str, image: Image.Image = NOISE, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of_small_chunks(size: int) -> bytes:
    whole = saved("PNG")
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in np.asarray(NOISE)))
    parts = [chunk(b"IDAT", pixels[start : start + size]) for start in range(0, len(pixels), size)]
    return whole[:33] + b"".join(parts) + chunk(b"IEND", b"")


def jpeg_with(segments: bytes) -> bytes:
    whole = saved("JPEG")
    return whole[:2] + segments + whole[2:]


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def tiff(strips: int, order: str = "<", big: bool = False, kind: int = 4) -> bytes:
    """One pixel wide; every strip is the same pixel."""
    tags = [
        (256, 4, 1, 1),
        (257, 4, 1, strips),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, kind, strips, 300),
    ]
    tags += [(277, 3, 1, 1), (278, 4, 1, 1), (279, kind, strips, 300)]
    entry = order + ("HHQ" if big else "HHL")
    body = struct.pack(order + ("Q" if big else "H"), len(tags))
    for tag, type_, count, value in tags:
        plain = struct.pack(order + ("H" if type_ == 3 else "L"), value)
        body += struct.pack(entry, tag, type_, count) + plain.ljust(8 if big else 4, b"\0")
    start = {"<": b"II", ">": b"MM"}[order] + struct.pack(
        order + ("HHHQ" if big else "HL"), *((43, 8, 0, 16) if big else (42, 8))
    )
    return (start + body).ljust(300, b"\0") + struct.pack(order + "L", 8) * strips


REAL: dict[str, Callable[[], bytes]] = {
    "PNG of 64-byte chunks": lambda: png_of_small_chunks(64),
    "JPEG with a large profile": lambda: jpeg_with(segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000)) * 255),
    "JPEG with many comments": lambda: jpeg_with(segment(0xFE, b"hello") * 1000),
    "JPEG with EXIF in segments": lambda: jpeg_with(segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 20),
    "progressive JPEG": lambda: saved("JPEG", progressive=True),
    "JPEG with a film behind it": lambda: saved("JPEG") + np.random.default_rng(1).bytes(12_000_000),
    "TIFF of rows": lambda: tiff(20_000),
    "TIFF of rows, big-endian": lambda: tiff(20_000, ">"),
    "BigTIFF of rows": lambda: tiff(20_000, big=True),
    "TIFF with a large profile": lambda: saved("TIFF", icc_profile=bytes(2_000_000)),
    "GIF with a long comment": lambda: saved("GIF", NOISE.convert("P"), comment=b"x" * 60_000),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_read(name: str) -> None:
    assert decode(REAL[name]()).width >= 1


def endless_scans() -> bytes:
    whole = saved("JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * 200 + whole[-2:]


ENDLESS: dict[str, Callable[[], bytes]] = {
    "comments": lambda: jpeg_with(segment(0xFE, b"") * 500_000),
    "padding": lambda: jpeg_with(b"\xff" * 2_000_000),
    "EXIF segments": lambda: jpeg_with(segment(0xE1, b"Exif\0\0x") * 100_000),
    "scans": endless_scans,
    "empty chunks": lambda: png_of_small_chunks(10**6)[:33] + chunk(b"abCd", b"") * 300_000,
    "strips": lambda: tiff(300_000),
    "strips, big-endian": lambda: tiff(300_000, ">"),
    "strips, BigTIFF": lambda: tiff(300_000, big=True),
    "strips as bytes": lambda: tiff(300_000, kind=1),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_ones_are_refused(name: str) -> None:
    data, started = ENDLESS[name](), time.process_time()
    with pytest.raises(ImageError, match="more pieces than usual") as caught:
        open_header(data)
    assert caught.value.code == "invalid_image"
    assert time.process_time() - started < 20  # a multiple of what it takes, a fraction of what it took


@pytest.mark.parametrize(
    "data", [b"II", b"II*\0", b"II*\0" + b"\xff" * 20, b"MM\0+" + bytes(12), b"II+\0" + b"\xff" * 40]
)
def test_broken_directories_are_left_to_the_decoder(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"readable|corrupt"):
        open_header(data)


@pytest.mark.parametrize("large", [False, True])
def test_segments_in_a_segment_that_the_decoder_does_not_skip(large: bool) -> None:
    hidden = segment(0xF0, segment(0xE1, b"Exif\0\0" + bytes(10)) * 2_900)  # a decoder that skips it sees none of them
    picture = Image.new("RGB", (8, 8)) if not large else NOISE
    data = saved("JPEG", picture)
    with pytest.raises(ImageError, match="more pieces than usual" if large else "truncated or corrupt") as caught:
        decode(data[:2] + hidden + data[2:])
    assert caught.value.code == "invalid_image"
