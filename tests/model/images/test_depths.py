"""What PNG, BMP and JPEG declare of their samples: used as it was meant, or refused by name."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from model.bundle import Bundle, bundled
from model.images.preprocessing import ImageError, load_image
from model.runtime.engine import Engine
from tests.model.images.samples import HEIGHT, WIDTH, Array, check, grey, packed
from tests.model.pictures import encoded


def png(colour: int, bits: int, rows: Array, transparent: Sequence[int]) -> bytes:
    """With a tRNS chunk; `rows` [height, width] or [height, width, 3] in samples of the file."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    lines = [rows[number].astype(">u2").tobytes() if bits == 16 else None for number in range(len(rows))]
    lines = [line or packed(row.reshape(1, -1), bits) for line, row in zip(lines, rows, strict=True)]
    head = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], bits, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + line for line in lines))
    table = struct.pack(f">{len(transparent)}H", *transparent)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", head), chunk(b"tRNS", table), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_one_transparent_grey_in_a_png(photo: Image.Image, bits: int) -> None:
    config, most = Bundle.load(bundled()).preprocessing, (1 << bits) - 1
    levels = np.round(grey(photo) * most / 255).astype(int)
    transparent = int(np.bincount(levels.ravel()).argmax())
    shown = np.where(levels == transparent, 255, levels * 255 // most if bits < 16 else levels >> 8).astype(np.uint8)
    assert (shown != levels * 255 // most).any() or transparent == most
    expected = load_image(encoded(Image.fromarray(shown), "PNG"), config)
    assert np.array_equal(load_image(png(0, bits, levels, [transparent]), config), expected)


@pytest.mark.parametrize("bits", [8, 16])
def test_one_transparent_colour_in_a_png(photo: Image.Image, bits: int) -> None:
    config, scale = Bundle.load(bundled()).preprocessing, 257 if bits == 16 else 1
    colours, shown = np.array(photo), np.array(photo)
    colours[:60], shown[:60] = (10, 200, 30), 255
    data = png(2, bits, colours.astype(int) * scale, [level * scale for level in (10, 200, 30)])
    assert np.array_equal(load_image(data, config), load_image(encoded(Image.fromarray(shown), "PNG"), config))


def bmp(image: Image.Image, bits: int, compression: int, masks: Sequence[int] = ()) -> bytes:
    red, green, blue = (np.asarray(image).astype(np.uint32)[::-1, :, channel] for channel in range(3))
    depths = [int(mask).bit_count() for mask in masks] or [5, 5, 5]
    starts = [(int(mask) & -int(mask)).bit_length() - 1 for mask in masks] or [10, 5, 0]
    channels = zip((red, green, blue), depths, starts, strict=True)
    pixels = sum((level * ((1 << depth) - 1) // 255) << start for level, depth, start in channels)
    body = np.asarray(pixels).astype(f"<u{bits // 8}").tobytes()
    head = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, bits, compression, len(body), 0, 0, 0, 0)
    head += struct.pack(f"<{len(masks)}I", *masks)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(body), 0, 0, 14 + len(head)) + head + body


@pytest.mark.parametrize(
    ("bits", "compression", "masks"),
    [
        (16, 0, ()),
        (16, 3, (0x7C00, 0x3E0, 0x1F)),
        (16, 3, (0xF800, 0x7E0, 0x1F)),
        (32, 3, (0xFF0000, 0xFF00, 0xFF)),
    ],
)
def test_bmps_of_16_and_32_bits(
    engine: Engine, photo: Image.Image, bits: int, compression: int, masks: Sequence[int]
) -> None:
    check(engine, photo, bmp(photo, bits, compression, masks), 5)


@pytest.mark.parametrize(
    ("bits", "compression", "masks", "reason"),
    [
        (16, 3, (0xF00, 0xF0, 0xF), r"unusual bits \(F00, F0, F\)"),
        (32, 3, (0x3FF00000, 0xFFC00, 0x3FF), "unusual bits"),
        (32, 4, (), "BMP of compression 4"),
    ],
)
def test_bmps_that_are_not_read_are_named(
    photo: Image.Image, bits: int, compression: int, masks: Sequence[int], reason: str
) -> None:
    with pytest.raises(ImageError, match=reason):
        load_image(bmp(photo, bits, compression, masks), Bundle.load(bundled()).preprocessing)


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [(4, 12, "12 bits a sample"), (1, 0xC5, "SOF5"), (1, 0xF7, "SOF55"), (9, 2, "2 components")],
)
def test_jpegs_that_are_not_read_are_named(photo: Image.Image, at: int, value: int, reason: str) -> None:
    data = bytearray(encoded(photo, "JPEG"))
    data[data.index(b"\xff\xc0") + at] = value
    with pytest.raises(ImageError, match=reason):
        load_image(bytes(data), Bundle.load(bundled()).preprocessing)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["CMYK", "L", "RGB"])
def test_jpegs_of_every_mode(engine: Engine, photo: Image.Image, mode: str, progressive: bool) -> None:
    data = encoded(photo.convert(mode), "JPEG", quality=95, progressive=progressive)
    check(engine, photo.convert("L") if mode == "L" else photo, data, 3)
